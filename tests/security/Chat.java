import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/** Posts a body, twice, with Java's own client as it is by default, and prints the status and the lines of each answer. */
public class Chat {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
            .header("Content-Type", "application/json")
            .POST(BodyPublishers.ofString(arguments[1]))
            .build();
        for (int time = 0; time < 2; time++) {
            var answer = client.send(request, BodyHandlers.ofLines());
            System.out.println(answer.statusCode() + " " + answer.version());
            answer.body().forEach(System.out::println);
        }
    }
}
