package weir;

import static java.nio.charset.StandardCharsets.UTF_8;
import static weir.Claims.SOON;
import static weir.Claims.equal;
import static weir.Claims.refused;
import static weir.Claims.until;

import io.nats.client.Connection;
import io.nats.client.ConnectionListener.Events;
import io.nats.client.Nats;
import io.nats.client.NKey;
import io.nats.client.Options;
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Ways in, and what happens when a server goes. Usage: Connections KEY=VALUE..., as doors.py has them. */
public final class Connections {
    private final Map<String, String> doors;

    private Connections(String[] arguments) {
        doors = new TreeMap<>();
        for (String argument : arguments) {
            var parts = argument.split("=", 2);
            doors.put(parts[0], parts[1]);
        }
    }

    public static void main(String[] arguments) throws Exception {
        var connections = new Connections(arguments);
        var claims = new Claims();
        claims.claim("user_and_password", connections::userAndPassword);
        claims.claim("a_wrong_password_is_refused", connections::aWrongPasswordIsRefused);
        claims.claim("token", connections::token);
        claims.claim("nkey", connections::nkey);
        claims.claim("credentials_file", connections::credentialsFile);
        claims.claim("tls", connections::tls);
        claims.claim("tls_with_an_unknown_ca_is_refused", connections::tlsWithAnUnknownCaIsRefused);
        claims.claim("tls_first", connections::tlsFirst);
        claims.claim("websocket", connections::websocket);
        claims.claim("secure_websocket_and_reconnect", connections::secureWebsocketAndReconnect);
        claims.claim("discovery_reconnect_and_lame_duck", connections::discoveryReconnectAndLameDuck);
        claims.end();
    }

    private Options.Builder to(String door) {
        return Options.builder().server(doors.get(door)).noReconnect().connectionTimeout(SOON);
    }

    private static void works(Options options) throws Exception {
        try (var client = Nats.connect(options)) {
            works(client);
        }
    }

    private static void works(Connection client) throws Exception {
        var subscription = client.subscribe("door.>");
        client.publish("door.a", "hi".getBytes(UTF_8));
        equal(new String(subscription.nextMessage(SOON).getData(), UTF_8), "hi");
        subscription.unsubscribe();
    }

    private void userAndPassword() throws Exception {
        works(to("users").userInfo("ann", "apple").build());
    }

    private void aWrongPasswordIsRefused() throws Exception {
        refused(() -> works(to("users").userInfo("ann", "pear").build()), "auth");
    }

    private void token() throws Exception {
        works(to("token").token("s3cret".toCharArray()).build());
    }

    private void nkey() throws Exception {
        var key = NKey.fromSeed(doors.get("nkey_seed").toCharArray());
        works(to("nkeys").authHandler(Nats.staticCredentials(null, key.getSeed())).build());
    }

    private void credentialsFile() throws Exception {
        works(to("operator").authHandler(Nats.credentials(doors.get("credentials"))).build());
    }

    private SSLContext trusting() throws Exception {
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (var file = new FileInputStream(doors.get("ca"))) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        var factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(null, factory.getTrustManagers(), null);
        return context;
    }

    private void tls() throws Exception {
        works(to("tls").token("s3cret".toCharArray()).sslContext(trusting()).build());
    }

    private void tlsWithAnUnknownCaIsRefused() throws Exception {
        refused(() -> works(to("tls").token("s3cret".toCharArray()).sslContext(SSLContext.getDefault()).build()), "");
    }

    private void tlsFirst() throws Exception {
        works(to("tls_first").token("s3cret".toCharArray()).sslContext(trusting()).tlsFirst().build());
    }

    private void websocket() throws Exception {
        works(to("websocket").userInfo("ann", "apple").build());
    }

    /** One server is killed: the client goes on with the other one over TLS, its subscription with it. */
    private void secureWebsocketAndReconnect() throws Exception {
        var options = Options.builder().servers(doors.get("wss").split(",")).userInfo("ann", "apple").sslContext(trusting())
            .maxReconnects(-1).reconnectWait(Duration.ofMillis(100)).connectionTimeout(SOON).build();
        try (var client = Nats.connect(options)) {
            var subscription = client.subscribe("moved.>");
            client.flush(SOON);
            var holder = client.getServerInfo().getServerName();
            move(client, "KILL");
            until("it has moved", () -> client.getStatus() == Connection.Status.CONNECTED && !client.getServerInfo().getServerName().equals(holder));
            client.flush(SOON);
            client.publish("moved.a", new byte[100_000]);
            equal(subscription.nextMessage(SOON).getData().length, 100_000);
        }
    }

    /** One server is killed, the next one says good-bye: the client learns of others and moves on, its subscription with it. */
    private void discoveryReconnectAndLameDuck() throws Exception {
        Set<Events> events = ConcurrentHashMap.newKeySet();
        var options = Options.builder().server(doors.get("trio")).maxReconnects(-1).reconnectWait(Duration.ofMillis(100))
            .connectionListener((connection, event) -> events.add(event)).build();
        try (var client = Nats.connect(options)) {
            var subscription = client.subscribe("moved.>");
            until("all three are known", () -> client.getServers().size() >= 3);
            move(client, "KILL");
            until("it is back", () -> events.contains(Events.RECONNECTED) && client.getStatus() == Connection.Status.CONNECTED);
            client.publish("moved.a", "one".getBytes(UTF_8));
            equal(new String(subscription.nextMessage(SOON).getData(), UTF_8), "one");
            var holder = client.getServerInfo().getServerName();
            move(client, "USR2");
            until("lame duck mode was told", () -> events.contains(Events.LAME_DUCK));
            until("it has moved", () -> client.getStatus() == Connection.Status.CONNECTED && !client.getServerInfo().getServerName().equals(holder));
            client.flush(SOON);
            client.publish("moved.b", "two".getBytes(UTF_8));
            equal(new String(subscription.nextMessage(SOON).getData(), UTF_8), "two");
        }
    }

    private void move(Connection client, String signal) throws Exception {
        var process = doors.get("pid_" + client.getServerInfo().getServerName());
        new ProcessBuilder("kill", "-" + signal, process).inheritIO().start().waitFor();
    }
}
