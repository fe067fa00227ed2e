/*
 * The subcommands of tuplebind: each is one function, which main() becomes.
 */
#pragma once

/* Takes the words from the subcommand's name on; returns the exit code. */
typedef int subcommand_main(int argc, char **argv);

subcommand_main config_main, doctor_main, env_main, explain_main, metrics_main, reap_main,
	reset_main, run_main, status_main, top_main;
