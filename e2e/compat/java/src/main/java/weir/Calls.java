package weir;

import static java.nio.charset.StandardCharsets.UTF_8;
import static weir.Claims.SOON;
import static weir.Claims.equal;
import static weir.Claims.refused;
import static weir.Claims.until;

import io.nats.client.Connection;
import io.nats.client.JetStreamManagement;
import io.nats.client.JetStreamSubscription;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.PublishOptions;
import io.nats.client.PullSubscribeOptions;
import io.nats.client.PushSubscribeOptions;
import io.nats.client.api.ConsumerConfiguration;
import io.nats.client.api.KeyValueConfiguration;
import io.nats.client.api.KeyValueEntry;
import io.nats.client.api.KeyValueWatcher;
import io.nats.client.api.OrderedConsumerConfiguration;
import io.nats.client.api.StorageType;
import io.nats.client.api.StreamConfiguration;
import io.nats.client.impl.Headers;
import io.nats.client.impl.NatsMessage;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** The main calls on one connection. Usage: Calls URL. */
public final class Calls {
    private static final int MANY = 100;
    private final Connection client;
    private final JetStreamManagement manager;

    private Calls(Connection client) throws Exception {
        this.client = client;
        manager = client.jetStreamManagement();
    }

    public static void main(String[] arguments) throws Exception {
        var calls = new Calls(Nats.connect(Options.builder().server(arguments[0]).noReconnect().build()));
        var claims = new Claims();
        claims.claim("publish_and_subscribe", calls::publishAndSubscribe);
        claims.claim("request_and_reply", calls::requestAndReply);
        claims.claim("no_responders", calls::noResponders);
        claims.claim("headers_are_kept", calls::headersAreKept);
        claims.claim("queue_groups", calls::queueGroups);
        claims.claim("unsubscribe_after", calls::unsubscribeAfter);
        claims.claim("largest_payload", calls::largestPayload);
        claims.claim("round_trip_time", () -> equal(calls.client.RTT().isNegative(), false));
        claims.claim("drain_a_subscription", calls::drainASubscription);
        claims.claim("drain_a_connection", () -> drainAConnection(arguments[0]));
        claims.claim("streams", calls::streams);
        claims.claim("expectations", calls::expectations);
        claims.claim("publish_asynchronously", calls::publishAsynchronously);
        claims.claim("pull_consumers", calls::pullConsumers);
        claims.claim("consumer_contexts", calls::consumerContexts);
        claims.claim("push_consumers", calls::pushConsumers);
        claims.claim("push_queues", calls::pushQueues);
        claims.claim("ordered_consumers", calls::orderedConsumers);
        claims.claim("key_value", calls::keyValue);
        claims.end();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    private static String text(Message message) {
        return new String(message.getData(), UTF_8);
    }

    private static List<String> texts(Iterable<Message> messages) {
        var texts = new ArrayList<String>();
        messages.forEach(message -> texts.add(text(message)));
        return texts;
    }

    private static List<String> numbers(int from, int to) {
        var numbers = new ArrayList<String>();
        for (int number = from; number < to; number++) numbers.add(String.valueOf(number));
        return numbers;
    }

    private void stream(String name, String... subjects) throws Exception {
        manager.addStream(StreamConfiguration.builder().name(name).subjects(subjects).storageType(StorageType.File).build());
    }

    private void fill(String subject, int count) throws Exception {
        for (String number : numbers(0, count)) client.jetStream().publish(subject, bytes(number));
    }

    private void publishAndSubscribe() throws Exception {
        var subscription = client.subscribe("java.>");
        for (String word : List.of("a", "b", "c")) client.publish("java." + word, "re.ply", bytes(word));
        for (String word : List.of("a", "b", "c")) {
            var message = subscription.nextMessage(SOON);
            equal(List.of(message.getSubject(), message.getReplyTo(), text(message)), List.of("java." + word, "re.ply", word));
        }
        subscription.unsubscribe();
    }

    private void requestAndReply() throws Exception {
        var dispatcher = client.createDispatcher(message -> client.publish(message.getReplyTo(), bytes("you said " + text(message))));
        dispatcher.subscribe("java.service");
        equal(text(client.request("java.service", bytes("hi"), SOON)), "you said hi");
        equal(text(client.request("java.service", bytes("ho")).get(5, TimeUnit.SECONDS)), "you said ho");
        client.closeDispatcher(dispatcher);
    }

    private void noResponders() throws Exception {
        refused(() -> client.request("java.nobody", bytes("hi")).get(5, TimeUnit.SECONDS), "");
        equal(client.request("java.nobody", bytes("hi"), SOON), null);
    }

    private void headersAreKept() throws Exception {
        var subscription = client.subscribe("java.headed");
        client.publish(NatsMessage.builder().subject("java.headed").headers(new Headers().add("Color", "red", "blue")).data("x").build());
        equal(subscription.nextMessage(SOON).getHeaders().get("Color"), List.of("red", "blue"));
    }

    private void queueGroups() throws Exception {
        var counts = List.of(new AtomicInteger(), new AtomicInteger(), new AtomicInteger());
        for (AtomicInteger count : counts) client.createDispatcher(message -> count.incrementAndGet()).subscribe("java.jobs", "workers");
        client.flush(SOON);
        for (int number = 0; number < 3 * MANY; number++) client.publish("java.jobs", bytes(""));
        until("all are there", () -> counts.stream().mapToInt(AtomicInteger::get).sum() == 3 * MANY);
        equal(counts.stream().allMatch(count -> count.get() > 0), true);
    }

    private void unsubscribeAfter() throws Exception {
        var subscription = client.subscribe("java.limited").unsubscribe(2);
        for (int number = 0; number < 5; number++) client.publish("java.limited", bytes(String.valueOf(number)));
        equal(List.of(text(subscription.nextMessage(SOON)), text(subscription.nextMessage(SOON))), List.of("0", "1"));
        until("it is over", () -> !subscription.isActive());
    }

    private void largestPayload() throws Exception {
        int limit = (int) client.getMaxPayload();
        var subscription = client.subscribe("java.large");
        client.publish("java.large", new byte[limit]);
        equal(subscription.nextMessage(SOON).getData().length, limit);
        refused(() -> client.publish("java.large", new byte[limit + 1]), "payload");
    }

    private void drainASubscription() throws Exception {
        var subscription = client.subscribe("java.drained");
        client.flush(SOON);
        for (int number = 0; number < 50; number++) client.publish("java.drained", bytes(""));
        var drained = subscription.drain(SOON);
        for (int number = 0; number < 50; number++) equal(subscription.nextMessage(SOON) != null, true);
        equal(drained.get(5, TimeUnit.SECONDS), true);
    }

    private static void drainAConnection(String url) throws Exception {
        var other = Nats.connect(url);
        var count = new AtomicInteger();
        other.createDispatcher(message -> count.incrementAndGet()).subscribe("java.parting");
        other.flush(SOON);
        for (int number = 0; number < 50; number++) other.publish("java.parting", bytes(""));
        equal(other.drain(SOON).get(5, TimeUnit.SECONDS), true);
        equal(count.get(), 50);
        until("it is closed", () -> other.getStatus() == Connection.Status.CLOSED);
    }

    private void streams() throws Exception {
        stream("JV", "jv.*");
        var js = client.jetStream();
        equal(js.publish("jv.a", bytes("x")).getSeqno(), 1L);
        equal(js.publish("jv.a", bytes("x"), PublishOptions.builder().messageId("1").build()).isDuplicate(), false);
        equal(js.publish("jv.a", bytes("x"), PublishOptions.builder().messageId("1").build()).isDuplicate(), true);
        equal(manager.getStreamInfo("JV").getStreamState().getMsgCount(), 2L);
        manager.updateStream(StreamConfiguration.builder(manager.getStreamInfo("JV").getConfiguration()).maxMessages(10).build());
        equal(manager.getStreamInfo("JV").getConfiguration().getMaxMsgs(), 10L);
        equal(manager.getStreamNames().contains("JV"), true);
        equal(manager.getStreamNames("jv.a"), List.of("JV"));
        equal(new String(manager.getMessage("JV", 1).getData(), UTF_8), "x");
        equal(manager.getLastMessage("JV", "jv.a").getSeq(), 2L);
        equal(manager.deleteMessage("JV", 1), true);
        equal(manager.purgeStream("JV").getPurged(), 1L);
        equal(manager.getAccountStatistics().getStreams() > 0, true);
        equal(manager.deleteStream("JV"), true);
        refused(() -> manager.getStreamInfo("JV"), "10059");
    }

    private void expectations() throws Exception {
        stream("JVE", "jve");
        fill("jve", 1);
        refused(() -> client.jetStream().publish("jve", bytes("2"), PublishOptions.builder().expectedLastSequence(9).build()), "10071");
        manager.deleteStream("JVE");
    }

    private void publishAsynchronously() throws Exception {
        stream("JVA", "jva");
        var acks = new ArrayList<java.util.concurrent.CompletableFuture<io.nats.client.api.PublishAck>>();
        for (int number = 0; number < 2 * MANY; number++) acks.add(client.jetStream().publishAsync("jva", bytes("x")));
        for (int number = 0; number < 2 * MANY; number++) equal(acks.get(number).get(5, TimeUnit.SECONDS).getSeqno(), number + 1L);
        manager.deleteStream("JVA");
    }

    private void pullConsumers() throws Exception {
        stream("JVP", "jvp");
        fill("jvp", 10);
        var subscription = client.jetStream().subscribe("jvp", PullSubscribeOptions.builder().durable("c").build());
        var first = subscription.fetch(4, SOON);
        equal(texts(first), numbers(0, 4));
        first.get(0).ack();
        first.get(1).ackSync(SOON);
        first.get(2).nak();
        first.get(3).term();
        var again = new ArrayList<Message>();
        while (again.size() < 7) again.addAll(subscription.fetch(7 - again.size(), SOON));
        equal(texts(again).stream().sorted().toList(), List.of("2", "4", "5", "6", "7", "8", "9"));
        for (Message message : again) {
            if (text(message).equals("2")) equal(message.metaData().deliveredCount(), 2L);
            message.inProgress();
            message.ackSync(SOON);
        }
        var info = subscription.getConsumerInfo();
        equal(List.of(info.getNumPending(), info.getNumAckPending(), info.getAckFloor().getStreamSequence()), List.of(0L, 0L, 10L));
        equal(subscription.fetch(1, 300), List.of());
        manager.deleteStream("JVP");
    }

    private void consumerContexts() throws Exception {
        stream("JVX", "jvx");
        fill("jvx", MANY);
        var consumer = client.getStreamContext("JVX").createOrUpdateConsumer(ConsumerConfiguration.builder().durable("c").build());
        var one = consumer.next(SOON);
        equal(text(one), "0");
        one.ack();
        var seen = new ArrayList<String>();
        try (var fetch = consumer.fetchMessages(9)) {
            for (Message message = fetch.nextMessage(); message != null; message = fetch.nextMessage()) {
                message.ack();
                seen.add(text(message));
            }
        }
        equal(seen, numbers(1, 10));
        var rest = new ConcurrentLinkedQueue<Message>();
        try (var consume = consumer.consume(message -> { message.ack(); rest.add(message); })) {
            until("the rest is there", () -> rest.size() == MANY - 10);
        }
        equal(texts(rest), numbers(10, MANY));
        manager.deleteStream("JVX");
    }

    private void pushConsumers() throws Exception {
        stream("JVU", "jvu");
        JetStreamSubscription subscription = client.jetStream().subscribe("jvu", PushSubscribeOptions.builder().durable("p").build());
        fill("jvu", 20);
        for (String number : numbers(0, 20)) {
            var message = subscription.nextMessage(SOON);
            equal(text(message), number);
            message.ackSync(SOON);
        }
        equal(subscription.getConsumerInfo().getAckFloor().getStreamSequence(), 20L);
        subscription.unsubscribe();
        manager.deleteStream("JVU");
    }

    private void pushQueues() throws Exception {
        stream("JVQ", "jvq");
        var seen = new ConcurrentLinkedQueue<String>();
        for (int member = 0; member < 2; member++) {
            client.jetStream().subscribe("jvq", "workers", client.createDispatcher(), message -> { seen.add(text(message)); message.ack(); }, false,
                PushSubscribeOptions.builder().build());
        }
        fill("jvq", 50);
        until("all are there, " + seen, () -> seen.size() >= 50);
        equal(seen.stream().distinct().count(), 50L);
        manager.deleteStream("JVQ");
    }

    private void orderedConsumers() throws Exception {
        stream("JVO", "jvo");
        fill("jvo", 2 * MANY);
        var pushed = client.jetStream().subscribe("jvo", PushSubscribeOptions.builder().ordered(true).build());
        for (String number : numbers(0, 2 * MANY)) equal(text(pushed.nextMessage(SOON)), number);
        pushed.unsubscribe();
        var context = client.getStreamContext("JVO").createOrderedConsumer(new OrderedConsumerConfiguration());
        var pulled = new ArrayList<String>();
        try (var iterate = context.iterate()) {
            while (pulled.size() < 2 * MANY) pulled.add(text(iterate.nextMessage(SOON)));
        }
        equal(pulled, numbers(0, 2 * MANY));
        manager.deleteStream("JVO");
    }

    private void keyValue() throws Exception {
        client.keyValueManagement().create(KeyValueConfiguration.builder().name("jvkv").maxHistoryPerKey(5).build());
        var bucket = client.keyValue("jvkv");
        equal(bucket.put("color", "red"), 1L);
        equal(bucket.get("color").getValueAsString(), "red");
        equal(bucket.update("color", bytes("blue"), 1), 2L);
        refused(() -> bucket.update("color", bytes("green"), 1), "10071");
        bucket.create("size", bytes("9"));
        equal(bucket.keys().stream().sorted().toList(), List.of("color", "size"));
        equal(bucket.history("color").stream().map(KeyValueEntry::getValueAsString).toList(), List.of("red", "blue"));
        var watched = new ConcurrentLinkedQueue<String>();
        var watch = bucket.watch("size", new KeyValueWatcher() {
            @Override
            public void watch(KeyValueEntry entry) {
                watched.add(entry.getValueAsString());
            }

            @Override
            public void endOfData() {
                watched.add("end");
            }
        });
        until("the first values were seen", () -> watched.size() == 2);
        bucket.put("size", "10");
        until("the change was seen", () -> watched.size() == 3);
        equal(List.copyOf(watched), List.of("9", "end", "10"));
        watch.unsubscribe();
        bucket.delete("size");
        equal(bucket.get("size"), null);
        bucket.purge("color");
        equal(bucket.getStatus().getBucketName(), "jvkv");
        client.keyValueManagement().delete("jvkv");
    }
}
