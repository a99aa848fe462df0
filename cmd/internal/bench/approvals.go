package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/rules"
)

const (
	heldStatements = 100
	manyRequests   = 10_000
)

// approvalRules allow everything, and ask for deletes with the second part.
const approvalRules = `
rules:
  - {name: all, effect: allow, identity: "*", resource: "*", commands: ["*"], relations: ["*.*"]}
`

const approvalAsks = `  - name: deletes
    effect: approve
    identity: "*"
    resource: "*"
    commands: delete
    relations: clinic.visits
    approve: {by: {issuer: "https://people", subjects: [dr-lee]}, wait: 5m}
`

// runApprovals prints how soon a decision reaches who waits for it, how long many
// requests take to list, and what approve rules cost those whom they don't concern.
func runApprovals(ctx context.Context, rounds int) error {
	fmt.Printf("### approvals\n\n| | median | worst |\n|---|---:|---:|\n")
	var reached, listed, used []float64
	for range rounds {
		r, err := approvalsReach(ctx)
		if err != nil {
			return err
		}
		l, u, err := approvalsList()
		if err != nil {
			return err
		}
		reached, listed, used = append(reached, r...), append(listed, l...), append(used, u...)
	}
	for _, l := range []struct {
		name string
		ms   []float64
	}{
		{"from the decision to the end of the statement's wait, both on the record and kept, with syncs, ms", reached},
		{fmt.Sprintf("%d pending requests listed, written and read as the command does, ms", manyRequests), listed},
		{"... of a processor", used},
	} {
		worst := 0.0
		for _, x := range l.ms {
			worst = max(worst, x)
		}
		fmt.Printf("| %s | %.2f | %.2f |\n", l.name, median(l.ms), worst)
	}
	fmt.Printf("\n| a decision about a SELECT that nothing asks about | ns | allocations |\n|---|---:|---:|\n")
	names := []string{"no rule asks for approvals", "a rule asks, of another command", "a rule asks, of another relation"}
	ns, allocs := map[string][]float64{}, map[string]int64{}
	for range rounds {
		for i, name := range names {
			r, err := approvalsUnasked(i)
			if err != nil {
				return err
			}
			ns[name], allocs[name] = append(ns[name], float64(r.NsPerOp())), r.AllocsPerOp()
		}
	}
	for _, name := range names {
		fmt.Printf("| %s | %.0f | %d |\n", name, median(ns[name]), allocs[name])
	}
	fmt.Println()
	return nil
}

// approvalRequest is a statement of a workload's.
func approvalRequest(workload, command, text string) *policy.Request {
	return &policy.Request{
		Kind: policy.StatementReq, Now: time.Now(), Commands: []string{command}, Text: text, Normalized: text,
		Objects: []policy.Object{{Schema: "clinic", Name: "visits", Access: map[string]policy.Access{"select": policy.Read, "delete": policy.Delete}[command]}},
		Session: &policy.Session{
			Identity: intercept.Identity{Workload: workload, Issuer: "https://id", Subject: "agent-7", Proof: "oidc", Expires: time.Now().Add(24 * time.Hour)},
			Resource: "clinic", Protocol: "postgres", Database: "clinic", User: "app",
			Event: &events.Session{ID: "s-1", Host: "bench", Protocol: "postgres", Resource: "clinic", Opened: time.Now(), Workload: workload},
		},
	}
}

func approvalGate(text string, j events.Journal) (*policy.Gate, error) {
	p, err := rules.Parse(rules.File{Name: "bench.yaml", Data: []byte(text)})
	if err != nil {
		return nil, err
	}
	return policy.NewGate(p, j, time.Now), nil
}

// fileLog keeps what is approved in a file, synced, as the daemon does.
type fileLog struct {
	f    *os.File
	size int64
}

func (l *fileLog) Append(r []byte) error {
	n, err := l.f.Write(append(r, '\n'))
	l.size += int64(n)
	return errors.Join(err, l.f.Sync())
}
func (l *fileLog) Replace([][]byte) error { return nil } // it begins empty
func (l *fileLog) Size() int64            { return l.size }

// approvalsReach holds statements, one after the other, and returns how long each
// waited from its decision on, in ms.
func approvalsReach(ctx context.Context) (out []float64, err error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{Host: "bench", Sync: true, Encode: ocsf.Append, Revive: ocsf.Revive, CheckpointEvery: -1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	f, err := os.Create(filepath.Join(dir, "approvals.log"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	book, err := approval.Open(nil, &fileLog{f: f}, approval.Options{Now: time.Now, Burst: 1 << 20, Tell: func(all ...*events.Event) error {
		for _, e := range all {
			t, err := j.Append(e)
			if err == nil {
				err = t.Wait(ctx)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	g, err := approvalGate(approvalRules+approvalAsks, j)
	if err != nil {
		return nil, err
	}
	g.SetApprovals(book)
	const why = "as agreed in ticket 4711"
	for i := range heldStatements {
		held, ends := make(chan string, 1), make(chan error, 1)
		r := approvalRequest("agent", "delete", fmt.Sprintf("DELETE FROM clinic.visits WHERE id = %d", i))
		r.OnHold = func(ctx context.Context, h policy.Held) (context.Context, func()) {
			held <- h.ID
			return ctx, func() {}
		}
		var ended time.Time
		go func() {
			d, err := g.Decide(ctx, r)
			ended = time.Now()
			if err == nil && !d.Allowed() {
				err = fmt.Errorf("approvals: it is refused: %s", d.Reason())
			}
			ends <- err
		}()
		var id string
		select {
		case id = <-held:
		case err := <-ends:
			return nil, fmt.Errorf("approvals: it is not held: %w", err)
		}
		e, err := book.Show(id)
		if err != nil {
			return nil, err
		}
		nonce, err := approval.Nonce(&e.Subject, approval.Approve, why)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if _, err := book.Decide(context.Background(), id, approval.Approve, why, &approval.Proof{Issuer: "https://people", Subject: "dr-lee", Claims: map[string]any{"nonce": nonce}, Issued: began, LoggedIn: began, Token: strings.Repeat("x", 900)}); err != nil {
			return nil, err
		}
		if err := <-ends; err != nil {
			return nil, err
		}
		out = append(out, ms(ended.Sub(began)))
	}
	return out, nil
}

// memoryLog keeps nothing: of a listing it is no part.
type memoryLog struct{}

func (memoryLog) Append([]byte) error    { return nil }
func (memoryLog) Replace([][]byte) error { return nil }
func (memoryLog) Size() int64            { return 0 }

// approvalsList lists many requests, as sallyport approvals ls does: the daemon writes
// them as JSON into a file of memory, from which the command reads and prints them.
func approvalsList() (out, used []float64, err error) {
	book, err := approval.Open(nil, memoryLog{}, approval.Options{Now: time.Now, Burst: 1 << 20, Tell: func(...*events.Event) error { return nil }})
	if err != nil {
		return nil, nil, err
	}
	g, err := approvalGate(approvalRules+approvalAsks, discard{})
	if err != nil {
		return nil, nil, err
	}
	g.SetApprovals(book)
	for i := range manyRequests {
		r := approvalRequest(fmt.Sprintf("agent-%d", i/2000), "delete", fmt.Sprintf("DELETE FROM clinic.visits WHERE id = %d AND note = 'the same visit was entered twice'", i))
		if _, err := g.Decide(context.Background(), r); err != nil {
			return nil, nil, err
		}
	}
	f, err := os.CreateTemp("/dev/shm", "sallyport-bench-")
	if err != nil {
		return nil, nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	for range 10 {
		if err := f.Truncate(0); err != nil {
			return nil, nil, err
		}
		before, began := processTime(), time.Now()
		listed, err := book.List(context.Background(), false)
		if err == nil {
			err = json.NewEncoder(io.NewOffsetWriter(f, 0)).Encode(listed)
		}
		if err != nil {
			return nil, nil, err
		}
		var all []approval.Entry
		if err := json.NewDecoder(io.NewSectionReader(f, 0, 1<<40)).Decode(&all); err != nil {
			return nil, nil, err
		}
		t := tabwriter.NewWriter(io.Discard, 0, 0, 2, ' ', 0)
		for i := range all {
			e := &all[i]
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, e.State, e.Ends.Local().Format(time.DateTime), e.Rule, e.Who.Workload, e.Where.Resource, strings.Join(e.What.Commands, ","))
		}
		if err := t.Flush(); err != nil {
			return nil, nil, err
		}
		if len(all) != manyRequests {
			return nil, nil, fmt.Errorf("approvals: %d requests are listed", len(all))
		}
		out, used = append(out, ms(time.Since(began))), append(used, ms(processTime()-before))
	}
	return out, used, nil
}

// approvalsUnasked measures a decision that no approval has to do with.
func approvalsUnasked(rule int) (testing.BenchmarkResult, error) {
	text := approvalRules
	if rule > 0 {
		text += approvalAsks
	}
	g, err := approvalGate(text, discard{})
	if err != nil {
		return testing.BenchmarkResult{}, err
	}
	r := approvalRequest("agent", "select", "SELECT 1 FROM clinic.visits")
	if rule == 2 {
		r = approvalRequest("agent", "delete", "DELETE FROM clinic.notes")
		r.Objects[0].Name = "notes"
	}
	return testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if d, err := g.Decide(context.Background(), r); err != nil || !d.Allowed() {
				b.Fatal(err)
			}
		}
	}), nil
}

// discard is a journal that is always done.
type discard struct{}

func (d discard) Append(*events.Event) (events.Ticket, error) { return events.NewTicket(d, 1), nil }
func (d discard) Record(*events.Chunk) (events.Ticket, error) { return events.NewTicket(d, 1), nil }
func (discard) WaitWritten(uint64) error                      { return nil }
func (discard) WaitDurable(context.Context, uint64) error     { return nil }
func (discard) Durable() uint64                               { return 1 << 62 }
