// Drives a service through the client that oapi-codegen made of its document.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"

	"example.com/driver/sandbox"
)

const issuedAt = "2026-01-06T09:30:00.120000+00:00"

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func check(holds bool, seen any) {
	if !holds {
		text, _ := json.Marshal(seen)
		panic(fmt.Sprintf("unexpected: %s", text))
	}
}

func done(step string) { fmt.Println("ok", step) }

func ptr[T any](value T) *T { return &value }

func manifest(id string) sandbox.Manifest {
	return sandbox.Manifest{
		WorkerId:      id,
		StateSnapshot: map[string]any{"goal": "count to ten"},
		IssuedAt:      issuedAt,
		Resources: sandbox.ResourceSpec{
			CpuLimit:      0.5,
			MemoryLimitMb: 256,
			NetworkPolicy: &sandbox.NetworkPolicy{AllowExternal: ptr(true)},
		},
		Signature: "signed",
	}
}

func main() {
	ctx := context.Background()
	drive(ctx, must(sandbox.NewClientWithResponses(os.Args[1])))
	driveNewer(ctx, must(sandbox.NewClientWithResponses(os.Args[2])))
}

func drive(ctx context.Context, client *sandbox.ClientWithResponses) {
	for _, id := range []string{"w1", "w2", "w3", "w4", "w5"} {
		launched := must(client.LaunchWorkerWithResponse(ctx, nil, manifest(id)))
		check(launched.JSON201 != nil && launched.JSON201.Status == "running", launched)
	}
	done("launch")

	retry := must(client.LaunchWorkerWithResponse(ctx, &sandbox.LaunchWorkerParams{Replace: ptr(false)}, manifest("w1")))
	check(retry.JSON200 != nil && reflect.DeepEqual(retry.JSON200.Manifest, manifest("w1")), retry)
	done("retry")

	var pages [][]string
	for query := (sandbox.ListWorkersParams{Status: ptr(sandbox.Running), Limit: ptr(int32(2))}); ; {
		page := must(client.ListWorkersWithResponse(ctx, &query))
		check(page.JSON200 != nil, page)
		var ids []string
		for _, record := range page.JSON200.Items {
			ids = append(ids, record.Manifest.WorkerId)
		}
		pages = append(pages, ids)
		query.Cursor = page.JSON200.NextCursor
		if query.Cursor == nil {
			break
		}
	}
	check(reflect.DeepEqual(pages, [][]string{{"w1", "w2"}, {"w3", "w4"}, {"w5"}}), pages)
	done("list")

	got := must(client.GetWorkerWithResponse(ctx, "w1"))
	check(got.JSON200 != nil, got)
	record := *got.JSON200
	check(reflect.DeepEqual(record.Manifest, manifest("w1")), record)
	check(record.Resources.NetworkPolicy.AllowController && !record.StartedAt.IsZero() && record.Cause == nil, record)
	done("get")

	enforced := must(client.EnforceResourceBoundsWithResponse(ctx, "w1"))
	check(enforced.JSON200 != nil && enforced.JSON200.Enforced && *enforced.JSON200.Observed.CpuLimit == 0.5, enforced)
	done("enforce")

	killed := must(client.KillWorkerWithResponse(ctx, "w1", &sandbox.KillWorkerParams{Reason: ptr("drift & doubt")}))
	check(killed.JSON200 != nil && slices.Equal(killed.JSON200.Killed, []string{"w1"}), killed)
	record = *must(client.GetWorkerWithResponse(ctx, "w1")).JSON200
	check(record.Status == "killed" && *record.Cause == "kill" && *record.Reason == "drift & doubt", record)
	done("kill")

	unknown := must(client.KillWorkerWithResponse(ctx, "unknown", nil))
	check(unknown.ApplicationproblemJSON404 != nil && unknown.ApplicationproblemJSON404.Code == "worker_not_found", unknown)
	done("kill unknown")

	everyone := must(client.KillAllWithResponse(ctx, nil, sandbox.KillAllRequest{Reason: ptr("red button")}))
	check(everyone.JSON200 != nil && everyone.JSON200.Complete, everyone)
	slices.Sort(everyone.JSON200.Killed)
	check(slices.Equal(everyone.JSON200.Killed, []string{"w2", "w3", "w4", "w5"}), everyone)
	nobody := must(client.KillAllWithBodyWithResponse(ctx, nil, "application/json", nil))
	check(nobody.JSON200 != nil && len(nobody.JSON200.Killed) == 0, nobody)
	done("kill-all")

	wrong := manifest("w6")
	wrong.Resources = sandbox.ResourceSpec{CpuLimit: -1}
	refused := must(client.LaunchWorkerWithResponse(ctx, nil, wrong)).ApplicationproblemJSON400
	check(refused != nil && refused.Code == "manifest_invalid" && refused.Errors != nil, refused)
	var pointers []string
	for _, mistake := range *refused.Errors {
		pointers = append(pointers, mistake.Pointer)
	}
	slices.Sort(pointers)
	check(slices.Equal(pointers, []string{"#/resources/cpu_limit", "#/resources/memory_limit_mb"}), pointers)
	done("refusal")

	counts := map[string]int{}
	for query := (sandbox.ListEventsParams{After: ptr(int64(0)), Limit: ptr(int32(3))}); ; {
		events := must(client.ListEventsWithResponse(ctx, &query))
		check(events.JSON200 != nil && len(events.JSON200.Items) <= 3, events)
		for _, event := range events.JSON200.Items {
			counts[event.Event]++
		}
		query.After = &events.JSON200.NextAfter
		if !events.JSON200.HasMore {
			break
		}
	}
	check(counts["container_launched"] == 5 && counts["kill_all"] == 2, counts)
	done("events")
}

func driveNewer(ctx context.Context, client *sandbox.ClientWithResponses) {
	record := must(client.GetWorkerWithResponse(ctx, "w1"))
	check(record.JSON200 != nil && record.JSON200.Status == "frozen" && *record.JSON200.Cause == "quota_exceeded", record)
	events := must(client.ListEventsWithResponse(ctx, nil))
	check(events.JSON200 != nil && len(events.JSON200.Items) == 1, events)
	event := events.JSON200.Items[0]
	check(event.Event == "container_frozen" && *event.WorkerId == "w1", event)
	strange := must(client.KillWorkerWithResponse(ctx, "w1", nil)).ApplicationproblemJSONDefault
	check(strange != nil && strange.Status == 451 && strange.Code == "legal_hold", strange)
	done("newer service")
}
