package ocsf_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

const uid = "00112233445566778899aabbccddeeff-42"

func session() *events.Session {
	s := &events.Session{
		ID: "s-1", Host: "db-gate-1", Protocol: "postgres", Resource: "clinic",
		Destination: netip.MustParseAddrPort("10.0.0.5:5432"), Opened: time.UnixMilli(1790000000123).UTC(),
		Workload: "triage-bot", Actor: "agent-a", Principal: "dr.grey", Actors: []string{"agent-a", "orchestrator"},
		Issuer: "https://id.example.org", PrincipalIssuer: "https://people.example.org", SPIFFE: "spiffe://example.org/triage-bot",
		Proof: "oidc+exec", WorkloadProof: events.Proved{By: "spiffe", Bound: []string{"pidfd"}},
		ActorProof:     events.Proved{By: "oidc+spiffe", Bound: []string{"subjects", "audience", "cnf"}},
		PrincipalProof: events.Proved{By: "oidc+exec", Bound: []string{"audience", "pidfd"}},
		Expires:        time.UnixMilli(1790003600000).UTC(),
		Process:        events.Process{PID: 4711, Start: 123456789, UID: 1001, GID: 1002, Exe: "/usr/bin/psql", Cgroup: "/agents/triage", Comm: "psql"},
		User:           "clinic", Database: "clinic", Application: "psql",
		ClientTLS: events.TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", Name: "db"},
	}
	s.ServerTLS.Store(&events.TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", Name: "db.internal", Verified: true})
	from := netip.MustParseAddrPort("[2001:db8::9]:51234")
	s.ServerFrom.Store(&from)
	return s
}

var at = time.Date(2026, 11, 24, 10, 0, 0, 123456789, time.UTC)

// examples has one event of each kind, as full as it gets.
func examples() []*events.Event {
	s := session()
	masked := []events.Field{{Schema: "public", Relation: "patients", Column: "ssn"}, {Schema: "public", Relation: "patients", Column: "birth_date"}}
	proc := &events.Process{PID: 99, Start: 5, UID: 1001, Exe: "/usr/bin/nc", Cgroup: "/agents/triage", Comm: "nc"}
	return []*events.Event{
		{Kind: events.Login, Time: at, Session: s, Verdict: events.Allow, Rules: []string{"clinic-agents"}, Command: "login"},
		{Kind: events.SessionOpen, Time: at, Session: s},
		{
			Kind: events.Statement, Time: at, Session: s, Number: 1, Command: "select", Normalized: "select name, ssn from patients where id = $1",
			Fingerprint: 0x0123456789abcdef, Literals: []events.Digest{{1, 2, 3, 4, 5, 6, 7, 8}}, Verdict: events.Mask,
			Rules: []string{"mask-direct-identifiers"}, Objects: []string{"public.patients"}, Masked: masked, Masks: []string{"partial", "year"},
			Revealed: []events.Field{{Schema: "public", Relation: "patients", Column: "mrn"}}, Justification: "verify who calls",
			Approvals: []string{"ap-7ck3n2v5q4hz6w2x2m7d"},
			Would:     events.WouldMask, WouldRules: []string{"emails"}, WouldMasked: []events.Field{{Schema: "public", Relation: "patients", Column: "email"}},
		},
		{
			Kind: events.Response, Time: at, Session: s, Number: 1, Status: "ok", Rows: 1, Bytes: 64, Duration: 1500 * time.Microsecond,
			Recorded: 64, Hash: [32]byte{0xaa},
			Detected: []events.Detection{{Column: 2, Field: events.Field{Schema: "public", Relation: "patients", Column: "note"}, Kind: "email", Count: 3}},
			Subjects: []events.Subject{{Name: "patient", Key: [16]byte{0xb0, 0x0c, 15: 1}}}, Named: 513, Untold: "public.visits: in a query within another",
		},
		{Kind: events.Subjects, Time: at, Session: s, Number: 1, Subjects: []events.Subject{{Name: "patient", Key: [16]byte{15: 7}}, {Name: "patient", Key: [16]byte{15: 8}}}},
		{
			Kind: events.Block, Time: at, Session: s, Number: 2, Command: "delete", Normalized: "delete from patients", Fingerprint: 7, Writes: true,
			Verdict: events.Blocked, Rules: []string{"no-destruction"}, Reason: "agents may not delete patients", Remedy: "ask the data steward",
			Code: "42501", Objects: []string{"public.patients"},
		},
		{Kind: events.SessionClose, Time: at, Session: s, Status: "interrupted", Reason: "the interceptor died before the end was recorded", Rows: 3, Bytes: 512, Duration: time.Minute},
		{
			Kind: events.Bypass, Time: at, Session: &events.Session{Host: "db-gate-1"}, Message: "a packet went round the passage and was dropped", Process: proc,
			Source: netip.MustParseAddrPort("10.0.0.9:40000"), Destination: netip.MustParseAddrPort("10.0.0.5:5432"), Transport: "tcp",
		},
		{Kind: events.Drift, Time: at, Session: &events.Session{Host: "db-gate-1"}, Message: "policy names public.patients.mrn, the catalog has no such column", Objects: []string{"public.patients"}},
		{Kind: events.Alarm, Time: at, Session: &events.Session{Host: "db-gate-1"}, Message: "the journal is nine tenths full"},
		{Kind: events.Checkpoint, Time: at, Session: &events.Session{Host: "db-gate-1"}, Message: "sallyport/db-gate-1/00112233445566778899aabbccddeeff\n41\nq83v\n\n— sallyport/db-gate-1 c2ln\n"},
		{Kind: events.Lifecycle, Time: at, Session: &events.Session{Host: "db-gate-1"}, Status: "start", Message: "the daemon is up"},
		{
			Kind: events.ApprovalRequest, Time: at, Session: &events.Session{Host: "db-gate-1"}, Status: "requested", Rules: []string{"deletes need a lead"},
			Approval: approvalOf(events.Approval{Step: "requested", Until: at.Add(15 * time.Minute), Lacks: 1}),
		},
		{
			Kind: events.ApprovalDecision, Time: at, Session: &events.Session{Host: "db-gate-1"}, Status: "approved", Rules: []string{"deletes need a lead"},
			Approval: approvalOf(events.Approval{
				Step: "approved", Until: at.Add(10 * time.Minute),
				Approver: "dr-lee", Issuer: "https://login.example.com", Proof: "oidc+nonce", Why: "duplicate visit, ticket 4711",
			}),
		},
	}
}

func approvalOf(a events.Approval) *events.Approval {
	a.ID, a.Rule, a.Covers, a.Uses = "ap-7ck3n2v5q4hz6w2x2m7d", "deletes need a lead", "statement", 1
	a.Digest, a.Policy = strings.Repeat("0f", 32), strings.Repeat("1e", 32)
	a.Workload, a.Actor, a.Principal, a.Resource, a.Database = "billing", "bot-7", "alice", "clinic", "clinic"
	a.Session = "s-1"
	return &a
}

// more are events that a kind also takes the form of.
func more() []*events.Event {
	s := session()
	bare := &events.Session{ID: "s-2", Protocol: "http", Pooled: true, Unsynced: true}
	return []*events.Event{
		{Kind: events.Login, Time: at, Session: bare, Verdict: events.Deny, Reason: "no token", Remedy: "mount one"},
		{Kind: events.Statement, Time: at, Session: bare, Verdict: events.Allow},
		{
			Kind: events.Statement, Time: at, Session: s, Number: 2, Verdict: events.Allow, Would: events.WouldBlock, WouldRules: []string{"nothing is destroyed"},
			WouldReason: "rule \"nothing is destroyed\" blocks delete", WouldFiltered: []string{"public.patients"},
		},
		{Kind: events.Statement, Time: at, Session: s, Number: 3, Command: "vacuum", Normalized: "vacuum", Verdict: events.Allow},
		{
			Kind: events.Statement, Time: at, Session: s, Number: 5, Command: "select", Normalized: "select $1", Verdict: events.Allow,
			Status: "ok", Rows: 1, Bytes: 20, Duration: time.Millisecond, Recorded: 20, Hash: [32]byte{1},
		},
		{Kind: events.Response, Time: at, Session: s, Number: 3, Status: "error", Code: "42P01", Command: "COPY"},
		{Kind: events.Response, Time: at, Session: s, Number: 4, Status: "skipped"},
		{Kind: events.Alarm, Time: at, Session: s, Message: "a transcript could not be written", Process: &events.Process{PID: 3}},
		{Kind: events.Alarm, Time: at},
		{Kind: events.Bypass, Time: at},
		{Kind: events.Bypass, Time: at, Session: s, Transport: "udp", Destination: netip.MustParseAddrPort("[2001:db8::1]:5432"), Source: netip.MustParseAddrPort("[fe80::1%eth0]:1")},
		{Kind: events.Lifecycle, Time: at, Status: "recovered", Message: "cut"},
		{Kind: events.Lifecycle, Time: at},
		{Kind: events.SessionOpen, Time: at, Session: &events.Session{
			ID: "x", Destination: netip.MustParseAddrPort("[fe80::1%eth0]:5432"),
			Actors: []string{"a\u2028b"}, Application: strings.Repeat("é", 5000),
		}},
	}
}

func TestEveryKindHasAnExample(t *testing.T) {
	seen := map[events.Kind]bool{}
	for _, e := range examples() {
		seen[e.Kind] = true
	}
	for k := events.Kind(1); k.String() != ""; k++ {
		if !seen[k] {
			t.Errorf("no example of %s", k)
		}
	}
}

func TestDecodeReadsBack(t *testing.T) {
	for _, e := range examples() {
		v, err := ocsf.Decode(ocsf.Append(nil, uid, e))
		if err != nil {
			t.Fatalf("%s: %v", e.Kind, err)
		}
		s := e.Session
		want := ocsf.View{
			UID: uid, Seq: 42, Kind: e.Kind.String(), Time: at, Host: s.Host,
			Session: s.ID, Opened: s.Opened, Protocol: s.Protocol, Resource: s.Resource, Destination: s.Destination,
			Workload: s.Workload, Actor: s.Actor, Principal: s.Principal, Actors: s.Actors, Issuer: s.Issuer,
			SPIFFE: s.SPIFFE, Vouches: s.PrincipalIssuer, OfWorkload: s.WorkloadProof, OfActor: s.ActorProof, OfPrincipal: s.PrincipalProof,
			Proof: s.Proof, Pooled: s.Pooled, Expires: s.Expires, Account: s.Account, Role: s.Role, User: s.User, Database: s.Database, Application: s.Application, Process: s.Process,
			Number: e.Number, Command: e.Command, Normalized: e.Normalized, Writes: e.Writes, Rules: e.Rules, Reason: e.Reason,
			Remedy: e.Remedy, Code: e.Code, Objects: e.Objects, Status: e.Status, Rows: e.Rows, Bytes: e.Bytes, Recorded: e.Recorded,
			ClientTLS: s.ClientTLS, ClientClear: s.ClientClear, ClientCertificate: s.ClientCertificate, Undecoded: s.Undecoded, BytesIn: e.BytesIn,
			Duration: e.Duration, Message: e.Message, Source: e.Source, Transport: e.Transport,
		}
		if t := s.ServerTLS.Load(); t != nil {
			want.ServerTLS = *t
		}
		if from := s.ServerFrom.Load(); from != nil {
			want.ServerFrom = *from
		}
		if e.Destination.IsValid() {
			want.Destination = e.Destination
		}
		if e.Process != nil {
			want.Process = *e.Process
		}
		want.Named, want.Untold = e.Named, e.Untold
		for _, of := range e.Subjects {
			want.Subjects = append(want.Subjects, of.String())
		}
		if e.Fingerprint != 0 {
			want.Fingerprint = fmt.Sprintf("%016x", e.Fingerprint)
		}
		for _, d := range e.Literals {
			want.Literals = append(want.Literals, hex.EncodeToString(d[:]))
		}
		for _, f := range e.Masked {
			want.Masked = append(want.Masked, f.String())
		}
		if e.Hash != [32]byte{} {
			want.Hash = hex.EncodeToString(e.Hash[:])
		}
		for _, f := range e.Revealed {
			want.Revealed = append(want.Revealed, f.String())
		}
		want.Masks, want.Justification, want.Approvals = e.Masks, e.Justification, e.Approvals
		if e.Approval != nil {
			a := ocsf.Approval(*e.Approval)
			want.Approval = &a
		}
		want.Would, want.WouldRules, want.WouldReason, want.WouldFiltered = e.Would.String(), e.WouldRules, e.WouldReason, e.WouldFiltered
		for _, f := range e.WouldMasked {
			want.WouldMasked = append(want.WouldMasked, f.String())
		}
		for _, d := range e.Detected {
			want.Detected = append(want.Detected, ocsf.Detection{Column: d.Column, Field: d.Field.String(), Kind: d.Kind, Count: d.Count})
		}
		switch e.Kind {
		case events.Login, events.Statement, events.Block:
			want.Verdict = e.Verdict.String()
		}
		if !reflect.DeepEqual(v, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", e.Kind, v, want)
		}
	}
}

func TestAnAlarmNamesItsProcess(t *testing.T) {
	p := events.Process{PID: 7, Start: 8, UID: 9, Exe: "/bin/x", Cgroup: "/a", Comm: "x"}
	v, err := ocsf.Decode(ocsf.Append(nil, uid, &events.Event{
		Kind: events.Alarm, Session: session(), Process: &p,
		Source: netip.MustParseAddrPort("10.0.0.9:1"), Transport: "udp",
	}))
	if err != nil || v.Process != p || v.Session != "s-1" || v.Source.Port() != 1 || v.Transport != "udp" || v.Destination != session().Destination {
		t.Fatalf("%+v %v", v, err)
	}
}

func TestReviveGivesTheSessionBack(t *testing.T) {
	e := examples()[1]
	s, err := ocsf.Revive(ocsf.Append(nil, uid, e))
	if err != nil {
		t.Fatal(err)
	}
	again := ocsf.Append(nil, uid, &events.Event{Kind: e.Kind, Time: e.Time, Session: s})
	if first := ocsf.Append(nil, uid, e); !bytes.Equal(first, again) {
		t.Fatalf("%s\n%s", first, again)
	}
	if _, err := ocsf.Revive(ocsf.Append(nil, uid, &events.Event{Kind: events.Alarm})); err == nil {
		t.Fatal("an alarm of no session gave one")
	}
}

func TestDecodeRefusesOthers(t *testing.T) {
	for _, s := range []string{"", "{}", "[]", `{"metadata":{"product":{"name":"other"},"event_code":"statement"}}`, `{"metadata":{"product":{"name":"sallyport"}}}`} {
		if _, err := ocsf.Decode([]byte(s)); err == nil {
			t.Errorf("%s was taken", s)
		}
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	b := ocsf.Append([]byte("before "), uid, examples()[2])
	if !bytes.HasPrefix(b, []byte("before {")) || !json.Valid(b[7:]) {
		t.Fatalf("%s", b)
	}
}

func TestNoAllocation(t *testing.T) {
	dst := make([]byte, 0, 64<<10)
	for _, e := range examples() {
		ocsf.Append(dst, uid, e)
		if n := testing.AllocsPerRun(100, func() { ocsf.Append(dst, uid, e) }); n > 0 {
			t.Errorf("%s: %v allocations", e.Kind, n)
		}
	}
}

func TestLongTextIsCutAndSaysSo(t *testing.T) {
	e := &events.Event{
		Kind: events.Block, Session: session(), Normalized: strings.Repeat("é", 1<<20), Reason: strings.Repeat("\x01", 1<<20),
		Rules: make([]string, 10000), Objects: make([]string, 10000), Masked: make([]events.Field, 10000), Literals: make([]events.Digest, 10000),
	}
	b := ocsf.Append(nil, uid, e)
	v, err := ocsf.Decode(b)
	if err != nil || !v.Truncated || !strings.HasSuffix(v.Normalized, "é…") || !utf8.Valid(b) || len(v.Masked) > 300 {
		t.Fatalf("%v %v %d bytes", err, v.Truncated, len(b))
	}
	if len(b) > 128<<10 {
		t.Fatalf("%d bytes", len(b))
	}
	long := session()
	long.Application = strings.Repeat("x", 1<<20)
	if v, err := ocsf.Decode(ocsf.Append(nil, uid, &events.Event{Kind: events.SessionOpen, Session: long})); err != nil || !v.Truncated || len(v.Application) > 600 {
		t.Fatalf("%v %v %d", err, v.Truncated, len(v.Application))
	}
}

func FuzzAppend(f *testing.F) {
	for _, s := range []string{"plain", "\xff\xfe", "\x00\x1f\x7f", "\u2028\u2029", `"\`, "</script>", "\u202e", "\xed\xa0\x80", strings.Repeat("€", 6000)} {
		f.Add(s, uint8(3))
	}
	f.Fuzz(func(t *testing.T, s string, kind uint8) {
		se := &events.Session{
			ID: s, Host: s, Protocol: s, Resource: s, Workload: s, Actor: s, Principal: s, Actors: []string{s},
			Issuer: s, Proof: s, SPIFFE: s, PrincipalIssuer: s, ActorProof: events.Proved{By: s, Bound: []string{s}}, User: s, Database: s, Application: s, Process: events.Process{PID: 1, Exe: s, Comm: s, Cgroup: s},
		}
		e := &events.Event{
			Kind: events.Kind(kind%11) + 1, Time: at, Session: se, Number: 1, Command: s, Normalized: s, Rules: []string{s},
			Reason: s, Remedy: s, Code: s, Objects: []string{s}, Masked: []events.Field{{Schema: s, Relation: s, Column: s}}, Status: s,
			Message: s, Transport: s, Process: &events.Process{Exe: s, Comm: s, Cgroup: s},
		}
		b := ocsf.Append(nil, s+"-1", e)
		if !json.Valid(b) || !utf8.Valid(b) {
			t.Fatalf("not JSON: %q", b)
		}
		if bytes.Contains(b, []byte("\u2028")) || bytes.ContainsFunc(b, func(r rune) bool { return r < 0x20 }) {
			t.Fatalf("bare control: %q", b)
		}
		v, err := ocsf.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(s) < 500 && utf8.ValidString(s) && (v.Workload != s || v.Reason != s || v.Rules[0] != s || v.Masked[0] != s+"."+s+"."+s) {
			t.Fatalf("%q came back as %q, %q, %q", s, v.Workload, v.Reason, v.Rules)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, e := range examples() {
		f.Add(ocsf.Append(nil, uid, e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ocsf.Decode(b)
		ocsf.Revive(b)
	})
}

func BenchmarkAppend(b *testing.B) {
	dst := make([]byte, 0, 4096)
	e := examples()[2]
	b.ReportAllocs()
	b.SetBytes(int64(len(ocsf.Append(dst, uid, e))))
	for b.Loop() {
		ocsf.Append(dst, uid, e)
	}
}
