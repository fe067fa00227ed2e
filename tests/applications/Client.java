import java.io.*;
import java.net.*;
import java.net.http.*;
import java.util.*;
import java.util.concurrent.*;

/** Client http|socket HOST PORT COUNT: so many connections at once, by either of Java's ways. */
public class Client {
    static String http(String host, int port) throws Exception {
        var request = HttpRequest.newBuilder(URI.create("http://" + host + ":" + port + "/")).build();
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        return client.send(request, HttpResponse.BodyHandlers.ofString()).body();
    }

    static String socket(String host, int port) throws Exception {
        try (var socket = new Socket(host, port)) {
            socket.getOutputStream().write("GET / HTTP/1.0\r\n\r\n".getBytes());
            var answer = new String(socket.getInputStream().readAllBytes());
            return answer.substring(answer.indexOf("\r\n\r\n") + 4);
        }
    }

    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[2]), count = Integer.parseInt(arguments[3]);
        Callable<String> one = () -> arguments[0].equals("http") ? http(arguments[1], port) : socket(arguments[1], port);
        var pool = Executors.newFixedThreadPool(8);
        for (var answer : pool.invokeAll(Collections.nCopies(count, one))) {
            System.out.println(answer.get());
        }
        pool.shutdown();
        System.exit(0);
    }
}
