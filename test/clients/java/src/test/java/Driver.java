import java.io.IOException;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import sandbox.ApiClient;
import sandbox.ApiException;
import sandbox.ApiResponse;
import sandbox.api.EventsApi;
import sandbox.api.KillAllApi;
import sandbox.api.WorkersApi;
import sandbox.model.ContainerRecord;
import sandbox.model.EnforcementReport;
import sandbox.model.Event;
import sandbox.model.EventPage;
import sandbox.model.KillAllRequest;
import sandbox.model.KillReport;
import sandbox.model.Manifest;
import sandbox.model.Mistake;
import sandbox.model.NetworkPolicy;
import sandbox.model.Problem;
import sandbox.model.ResourceSpec;
import sandbox.model.WorkerPage;

/** Drives a service through the client that openapi-generator made of its document. */
public final class Driver {
    private static final String ISSUED_AT = "2026-01-06T09:30:00.120000+00:00";

    private final ApiClient client = new ApiClient();
    private final WorkersApi workers;
    private final KillAllApi killAll;
    private final EventsApi events;

    private Driver(String url) {
        client.updateBaseUri(url);
        workers = new WorkersApi(client);
        killAll = new KillAllApi(client);
        events = new EventsApi(client);
    }

    public static void main(String[] urls) throws ApiException, IOException {
        new Driver(urls[0]).drive();
        new Driver(urls[1]).driveNewer();
    }

    private interface Call {
        Object run() throws ApiException;
    }

    /** A refusal is an exception; its Problem is read with the client's own mapper. */
    private Problem refusal(Call call) throws IOException {
        try {
            throw new AssertionError("not refused: " + call.run());
        } catch (ApiException refused) {
            return client.getObjectMapper().readValue(refused.getResponseBody(), Problem.class);
        }
    }

    private static Manifest manifest(String id) {
        return new Manifest()
                .workerId(id)
                .parentId(null)
                .depth(0L)
                .stateSnapshot(Map.of("goal", "count to ten"))
                .issuedAt(ISSUED_AT)
                .resources(new ResourceSpec()
                        .cpuLimit(0.5)
                        .memoryLimitMb(256L)
                        .networkPolicy(new NetworkPolicy().allowExternal(true)))
                .signature("signed");
    }

    private static void equal(Object actual, Object expected) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError(actual + " is not " + expected);
        }
    }

    private static void done(String step) {
        System.out.println("ok " + step);
    }

    private void drive() throws ApiException, IOException {
        for (String id : List.of("w1", "w2", "w3", "w4", "w5")) {
            ApiResponse<ContainerRecord> launched = workers.launchWorkerWithHttpInfo(manifest(id), null);
            equal(launched.getStatusCode(), 201);
            equal(launched.getData().getStatus(), "running");
        }
        done("launch");

        ApiResponse<ContainerRecord> retry = workers.launchWorkerWithHttpInfo(manifest("w1"), false);
        equal(retry.getStatusCode(), 200);
        equal(retry.getData().getManifest(), manifest("w1"));
        done("retry");

        List<List<String>> pages = new ArrayList<>();
        String cursor = null;
        do {
            WorkerPage page = workers.listWorkers("running", null, 2, cursor);
            pages.add(page.getItems().stream().map(record -> record.getManifest().getWorkerId()).toList());
            cursor = page.getNextCursor();
        } while (cursor != null);
        equal(pages, List.of(List.of("w1", "w2"), List.of("w3", "w4"), List.of("w5")));
        done("list");

        ContainerRecord record = workers.getWorker("w1");
        equal(record.getManifest(), manifest("w1"));
        equal(record.getResources().getNetworkPolicy().getAllowController(), true);
        equal(record.getStartedAt().isAfter(OffsetDateTime.parse(ISSUED_AT)), true);
        equal(record.getCause(), null);
        done("get");

        EnforcementReport enforced = workers.enforceResourceBounds("w1");
        equal(enforced.getEnforced(), true);
        equal(enforced.getObserved().getCpuLimit(), 0.5);
        done("enforce");

        equal(workers.killWorker("w1", "drift & doubt", false).getKilled(), List.of("w1"));
        record = workers.getWorker("w1");
        equal(record.getStatus(), "killed");
        equal(record.getCause(), "kill");
        equal(record.getReason(), "drift & doubt");
        done("kill");

        Problem unknown = refusal(() -> workers.killWorker("unknown", null, null));
        equal(unknown.getStatus(), 404);
        equal(unknown.getCode(), "worker_not_found");
        done("kill unknown");

        KillReport everyone = killAll.killAll(null, new KillAllRequest().reason("red button"));
        equal(everyone.getComplete(), true);
        equal(everyone.getKilled().stream().sorted().toList(), List.of("w2", "w3", "w4", "w5"));
        equal(killAll.killAll(null, new KillAllRequest()).getKilled(), List.of());
        done("kill-all");

        Manifest wrong = manifest("w6").resources(new ResourceSpec().cpuLimit(-1.0).memoryLimitMb(0L));
        Problem refused = refusal(() -> workers.launchWorker(wrong, null));
        equal(refused.getStatus(), 400);
        equal(refused.getCode(), "manifest_invalid");
        equal(
                refused.getErrors().stream().map(Mistake::getPointer).sorted().toList(),
                List.of("#/resources/cpu_limit", "#/resources/memory_limit_mb"));
        done("refusal");

        Map<String, Integer> counts = new HashMap<>();
        EventPage page;
        long after = 0;
        do {
            page = events.listEvents(after, 3, null, null, null);
            equal(page.getItems().size() <= 3, true);
            for (Event event : page.getItems()) {
                counts.merge(event.getEvent(), 1, Integer::sum);
            }
            after = page.getNextAfter();
        } while (page.getHasMore());
        equal(counts.get("container_launched"), 5);
        equal(counts.get("kill_all"), 2);
        done("events");
    }

    private void driveNewer() throws ApiException, IOException {
        ContainerRecord record = workers.getWorker("w1");
        equal(record.getStatus(), "frozen");
        equal(record.getCause(), "quota_exceeded");
        Event event = events.listEvents(null, null, null, null, null).getItems().get(0);
        equal(event.getEvent(), "container_frozen");
        equal(event.getWorkerId(), "w1");
        Problem strange = refusal(() -> workers.killWorker("w1", null, null));
        equal(strange.getStatus(), 451);
        equal(strange.getCode(), "legal_hold");
        done("newer service");
    }
}
