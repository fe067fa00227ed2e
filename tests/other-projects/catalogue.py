"""All suites, the packaged ones first."""
import built
import packaged

SUITES = packaged.SUITES + built.SUITES
