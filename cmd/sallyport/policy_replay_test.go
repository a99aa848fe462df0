package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/transcripts"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// recordedStore makes a store of one session's events, each statement with its exact
// text.
func recordedStore(t *testing.T, s *events.Session, list []events.Event, texts map[uint64]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	db, err := recorder.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.KeepTranscripts(recorder.Transcripts{Store: transcripts.OpenFiles(recorder.TranscriptsFolder(dir))}) // as a recorder does
	var records []recorder.Message
	add := func(kind events.Kind, payload []byte) {
		r := events.Record{Chain: "c1", Seq: uint64(len(records) + 1), Kind: kind, Protocol: s.Protocol, Session: s.ID, Payload: payload}
		if n := len(records); n > 0 {
			r.Prev = records[n-1].Record.Hash
		}
		r.Hash = r.Sum()
		records = append(records, recorder.Message{Host: s.Host, Record: r})
	}
	for i := range list {
		e := &list[i]
		e.Session, e.Time = s, s.Opened.Add(time.Duration(i)*time.Second)
		add(e.Kind, ocsf.Append(nil, fmt.Sprintf("c1-%d", len(records)+1), e))
		if text := texts[e.Number]; text != "" {
			add(0, events.AppendChunk(nil, &events.Chunk{Number: e.Number, Kind: events.ChunkStatement, Time: e.Time, Data: []byte(text)}))
		}
	}
	if _, alarms, err := db.Add(t.Context(), records, time.Now()); err != nil || len(alarms) > 0 {
		t.Fatal(alarms, err)
	}
	return dir
}

// Recorded decisions are made again, from the store or from an export: what would
// be another one is listed, and what can't be told is said.
func TestPolicyReplay(t *testing.T) {
	server, err := postgrestest.Start(clinicSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	good, _ := manualExamples(t)
	config := policyFiles(t, good, server.Addr.String(), ", catalog: {user: sallyport_catalog}")
	proved := events.Proved{By: "oidc+pidfd", Bound: []string{"subjects"}}
	s := &events.Session{
		ID: "0198c2-a", Host: "h", Protocol: "postgres", Resource: "clinic", Opened: time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC),
		Workload: "billing-agent", Actor: "agent-7", Issuer: "https://id.example", Proof: "oidc+pidfd", WorkloadProof: proved, ActorProof: proved,
		User: "clinic", Database: "postgres",
	}
	ssn := []events.Field{{Schema: "clinic", Relation: "patients", Column: "ssn"}}
	store := recordedStore(t, s, []events.Event{
		{Kind: events.Login, Verdict: events.Allow, Rules: []string{"billing reads"}, Command: "login"},
		{Kind: events.Statement, Number: 1, Normalized: "select ssn from clinic.patients", Verdict: events.Mask, Rules: []string{"identifiers", "billing reads"}, Masked: ssn, Masks: []string{"partial"}},
		{Kind: events.Statement, Number: 2, Normalized: "select city from clinic.patients where id = ?", Verdict: events.Allow, Rules: []string{"billing reads"}},
		{Kind: events.Block, Number: 3, Normalized: "delete from clinic.patients", Verdict: events.Blocked, Rules: []string{"nothing is destroyed"}, Reason: "never"},
		{Kind: events.Statement, Number: 4, Normalized: "prepare x as select note from clinic.encounters", Verdict: events.Allow, Rules: []string{"billing reads"}},
		{Kind: events.Statement, Number: 5, Normalized: "execute x", Verdict: events.Allow, Rules: []string{"billing reads"}},
		{Kind: events.Block, Number: 6, Normalized: "select ?", Verdict: events.Blocked, Rules: []string{"billing reads"}, Code: "53400", Reason: "too many"},
		{Kind: events.Statement, Number: 7, Verdict: events.Allow, Rules: []string{"billing reads"}},
		{Kind: events.Block, Number: 8, Normalized: "select ?", Verdict: events.Blocked, Rules: []string{"identity"}, Reason: "the workload's token has expired"},
	}, map[uint64]string{
		1: "SELECT ssn FROM clinic.patients", 2: "SELECT city FROM clinic.patients WHERE id = 7", 3: "DELETE FROM clinic.patients", 4: "PREPARE x AS SELECT note FROM clinic.encounters", 5: "EXECUTE x",
	})
	replay := func(policy string, args ...string) (string, error) {
		t.Helper()
		file := filepath.Join(filepath.Dir(config), "new.yaml")
		if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
			t.Fatal(err)
		}
		return command(append([]string{"policy", "replay", "-c", config, "--policy", file}, args...)...)
	}
	const rest = "1 not decided again: a limit refused it\n1 not decided again: no rule decided it\n1 not decided again: what was asked is not on the record\n"
	if out, err := replay(good, "--store", store); err != nil || out != "6 decisions of 1 session decided again, 0 would be another one\n"+rest {
		t.Fatalf("%s%v", out, err)
	}
	stricter := strings.NewReplacer("ssn: {mask: partial, last: 4}", "ssn: redact\n      clinic.encounters.note: redact", "[delete, ", "[update, ").Replace(good) + `
  - {name: own, effect: filter, identity: "*", resource: clinic, relations: clinic.patients, where: id = 7}
`
	export := filepath.Join(t.TempDir(), "session.jsonl")
	if _, err := command("sessions", "export", "--store", store, s.ID, "-o", export); err != nil {
		t.Fatal(err)
	}
	for _, from := range [][]string{{"--store", store, "--session", "0198c2"}, {"--store", store, "--workload", "billing-agent", "--since", "2026-01-01T00:00:00Z"}, {"--export", export}} {
		out, err := replay(stricter, from...)
		if exitCode(err) != 1 || err.Error() != "5 of 6 decisions would be another one" {
			t.Errorf("%v: %v\n%s", from, err, out)
		}
		for _, want := range []string{
			"billing-agent@clinic  [1] select ssn from clinic.patients\n    was  mask by identifiers, billing reads; masked clinic.patients.ssn (partial)\n    is   mask by own, identifiers, billing reads; masked clinic.patients.ssn (redact); filtered by own\n",
			"    is   allow by own, billing reads; filtered by own\n",
			"    was  block by nothing is destroyed; never\n    is   deny by default; no rule allows delete on clinic.patients\n",
			"[5] execute x\n    was  allow by billing reads\n    is   mask by identifiers, billing reads; masked clinic.encounters.note (redact)\n",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%v: no %q in\n%s", from, want, out)
			}
		}
	}
	var found replayed
	if out, err := replay(stricter, "--export", export, "--json"); exitCode(err) != 1 || json.Unmarshal([]byte(out), &found) != nil || len(found.Changed) != 5 || found.Changed[0].Number != 1 || found.Decisions != 6 || len(found.NotTold) != 3 {
		t.Errorf("%s%v", out, err)
	}
	nurses := strings.Replace(good, "identity: {workload: billing-agent}", "identity: {workload: billing-agent, claims: {role: nurse}}", 1)
	if out, err := replay(nurses, "--store", store); exitCode(err) != 1 || !strings.HasPrefix(out, "warning: claims are not on the record, and rules look at them (billing reads)") || !strings.Contains(out, "login\n    was  allow by billing reads\n    is   deny by default") {
		t.Errorf("%s%v", out, err)
	}
	if out, err := replay(nurses, "--store", store, "--claim", "role=nurse"); err != nil || strings.Contains(out, "warning") {
		t.Errorf("%s%v", out, err)
	}
	for _, args := range [][]string{{"--store", t.TempDir()}, {"--store", store, "--session", "none"}, {"--export", config}, {"--store", store, "--claim", "x"}, {"--store", store, "--since", "noon"}} {
		if _, err := replay(good, args...); exitCode(err) != 2 {
			t.Errorf("%v: %v", args, err)
		}
	}
	if err := os.RemoveAll(recorder.TranscriptsFolder(store)); err != nil {
		t.Fatal(err)
	}
	if out, _ := replay(good, "--store", store); !strings.HasPrefix(out, "warning: of 5 statements the exact text can't be read, and they are decided without their literals: ") {
		t.Error(out)
	}
	if _, err := replay("rules: []", "--store", store); exitCode(err) != 2 {
		t.Error(err)
	}
	server.Stop()
	if _, err := replay(good, "--store", store); exitCode(err) != 1 || !strings.Contains(err.Error(), "catalog") {
		t.Errorf("no server: %v", err)
	}
}
