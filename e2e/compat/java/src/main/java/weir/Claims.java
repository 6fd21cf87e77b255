package weir;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BooleanSupplier;

/** Prints `ok NAME` for each claim that holds, `failed NAME: ...` for one that does not. It makes no claims itself. */
final class Claims {
    static final Duration SOON = Duration.ofSeconds(5);
    private static final Duration WITHIN = Duration.ofSeconds(30);
    private boolean failed;

    interface Claim {
        void hold() throws Exception;
    }

    void claim(String name, Claim claim) throws InterruptedException {
        var executor = Executors.newSingleThreadExecutor();
        try {
            executor.submit(() -> { claim.hold(); return null; }).get(WITHIN.toSeconds(), TimeUnit.SECONDS);
            System.out.println("ok " + name);
        } catch (ExecutionException | TimeoutException error) {
            failed = true;
            var text = new StringWriter();
            (error.getCause() == null ? error : error.getCause()).printStackTrace(new PrintWriter(text));
            System.out.println("failed " + name + ": " + text);
        } finally {
            executor.shutdownNow();
        }
    }

    /** Ends the program: status 1 when a claim did not hold. */
    void end() {
        System.out.flush();
        Runtime.getRuntime().halt(failed ? 1 : 0);
    }

    static void equal(Object actual, Object expected) {
        if (!Objects.equals(actual, expected)) throw new AssertionError(actual + " is not " + expected);
    }

    static void until(String what, BooleanSupplier condition) throws InterruptedException {
        var deadline = System.nanoTime() + Duration.ofSeconds(20).toNanos();
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > deadline) throw new AssertionError("not in time: " + what);
            Thread.sleep(10);
        }
    }

    static void refused(Claim claim, String text) throws Exception {
        try {
            claim.hold();
        } catch (Exception error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (String.valueOf(cause.getMessage()).toLowerCase().contains(text.toLowerCase())) return;
            }
            throw new AssertionError("another refusal than " + text, error);
        }
        throw new AssertionError("it was not refused: " + text);
    }
}
