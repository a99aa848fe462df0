package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// observe has what a client sends read where nothing is enforced.
func observe(t testing.TB, r io.Reader, j events.Journal, nobody string) error {
	t.Helper()
	cat, err := catalog.Open(t.Context(), catalog.Options{Dial: dialServer, User: "sallyport_catalog", Database: "postgres"})
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	an := rewrite.New(rewrite.Options{Parser: pool, Catalog: cat})
	p := postgres.New(postgres.Options{
		Analyzer: func(context.Context, string, string) (query.Analyzer, func(), error) { return an, func() {}, nil },
		Digest:   digest,
	})
	s := &policy.Session{Resource: "db", Protocol: "postgres", Event: &events.Session{ID: "s", Protocol: "postgres"}}
	if nobody == "" {
		s.Identity = intercept.Identity{Workload: "agent", Subject: "agent", Proof: "test", Expires: time.Now().Add(time.Hour)}
	}
	w := protocols.NewWatch(protocols.WatchOptions{Policy: s, Gate: policy.NewGate(engine(t, maskPolicy), j, time.Now), Journal: j, Nobody: nobody})
	return p.Observe(t.Context(), w, r)
}

func messages(all ...pgproto3.FrontendMessage) (b []byte) {
	for _, m := range all {
		b = encoded(b, m)
	}
	return b
}

func encoded(b []byte, m pgproto3.FrontendMessage) []byte {
	b, err := m.Encode(b)
	if err != nil {
		panic(err)
	}
	return b
}

var hello = &pgproto3.StartupMessage{ProtocolVersion: 196608, Parameters: map[string]string{"user": "agent", "database": "postgres", "application_name": "shell"}}

// What a client sends is told of statement by statement, in both protocols,
// whatever comes between, and however it arrives.
func TestObserved(t *testing.T) {
	stream := messages(
		&pgproto3.SSLRequest{}, hello, &pgproto3.PasswordMessage{Password: "secret-of-mine"},
		&pgproto3.Query{String: "select name from clinic.patients where ssn = '123-45-6789'"},
		&pgproto3.Query{String: "copy t from stdin"},
		&pgproto3.CopyData{Data: bytes.Repeat([]byte("1\tdata\n"), 1<<16)}, &pgproto3.CopyDone{},
		&pgproto3.Parse{Name: "d", Query: "delete from clinic.patients where id = $1", ParameterOIDs: []uint32{23}},
		&pgproto3.Describe{ObjectType: 'S', Name: "d"}, &pgproto3.Sync{},
		&pgproto3.Bind{PreparedStatement: "d", Parameters: [][]byte{[]byte("77")}}, &pgproto3.Execute{}, &pgproto3.Sync{},
		&pgproto3.Query{String: "prepare p as select a from t"},
		&pgproto3.Query{String: "execute p"},
		&pgproto3.Query{String: "selec nonsense"},
	)
	// As large as no statement may be: passed over, and told of.
	large := binary.BigEndian.AppendUint32([]byte{'Q'}, 17<<20+4)
	stream = append(append(stream, large...), bytes.Repeat([]byte("x"), 17<<20)...)
	stream = append(stream, messages(&pgproto3.Query{String: "select 1"}, &pgproto3.Terminate{})...)
	for name, r := range map[string]io.Reader{"at once": bytes.NewReader(stream), "in halves": iotest.HalfReader(bytes.NewReader(stream))} {
		j := protocoltest.NewJournal()
		if err := observe(t, r, j, ""); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if l := j.Events(events.Login); len(l) != 1 || l[0].Verdict != events.Allow {
			t.Errorf("%s: login %+v", name, l)
		}
		type told struct {
			verdict events.Verdict
			rule    string
		}
		want := []told{
			{events.Observed, "phi"},
			{events.Allow, "clinic-staff"},
			{events.Observed, "no-deletes"},
			{events.Allow, "clinic-staff"},
			{events.Allow, "clinic-staff"},
			{events.Observed, "opaque"},
			{events.Observed, "opaque"},
			{events.Allow, "clinic-staff"},
		}
		all := j.Events(events.Statement)
		for i, e := range all {
			if i >= len(want) || e.Verdict != want[i].verdict || len(e.Rules) == 0 || e.Rules[0] != want[i].rule || e.Number != uint64(i+1) {
				t.Errorf("%s: %d: %s %q, %v, %s", name, i, e.Verdict, e.Normalized, e.Rules, e.Reason)
			}
		}
		if len(all) != len(want) || len(j.Events(events.Response)) != len(want) {
			t.Errorf("%s: %d statements and %d outcomes, want %d", name, len(all), len(j.Events(events.Response)), len(want))
		}
		text := j.Transcript(events.ChunkStatement)
		if !strings.Contains(text, "delete from clinic.patients") || strings.Contains(text, "secret-of-mine") {
			t.Errorf("%s: transcript %.300q", name, text)
		}
		if !strings.Contains(j.Transcript(events.ChunkBinds), "77") {
			t.Errorf("%s: the parameters are not in the transcript", name)
		}
	}
}

func TestObservedNobody(t *testing.T) {
	j := protocoltest.NewJournal()
	if err := observe(t, bytes.NewReader(messages(hello, &pgproto3.Query{String: "select a from t"})), j, "no token"); err != nil {
		t.Fatal(err)
	}
	for _, k := range []events.Kind{events.Login, events.Statement} {
		e := j.Events(k)
		if len(e) != 1 || e[0].Verdict != events.Observed || e[0].Rules[0] != "identity" || e[0].Reason != "would have been refused (block): no token" || e[0].Session.User != "agent" {
			t.Errorf("%+v", e)
		}
	}
	if e := j.Events(events.Statement); len(e) == 1 && (len(e[0].Objects) != 1 || e[0].Objects[0] != "public.t") {
		t.Errorf("objects: %q", e[0].Objects)
	}
}

// What is no session of the protocol ends the observation with a reason.
func TestObservedUnread(t *testing.T) {
	tls := append(messages(&pgproto3.SSLRequest{}), 0x16, 3, 1, 2, 0, 1, 0, 0, 0)
	for name, c := range map[string]struct {
		sent []byte
		why  string // "": none
	}{
		"probe":   {nil, ""},
		"cancel":  {messages(&pgproto3.CancelRequest{ProcessID: 1, SecretKey: 2}), ""},
		"tls":     {tls, "encrypted"},
		"direct":  {tls[8:], "encrypted"},
		"http":    {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "not a greeting"},
		"framing": {append(messages(hello), 'Q', 0, 0, 0, 1), "impossible length"},
		"unknown": {append(messages(hello), '~', 0, 0, 0, 4), "not of this protocol"},
	} {
		j := protocoltest.NewJournal()
		err := observe(t, bytes.NewReader(c.sent), j, "")
		if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", name, err)
		}
		if n := len(j.Events(events.Statement)); n != 0 {
			t.Errorf("%s: %d statements", name, n)
		}
	}
	// A journal that is full ends it, and says so.
	j := protocoltest.NewJournal()
	j.Full(true)
	if err := observe(t, bytes.NewReader(messages(hello)), j, ""); err == nil || !strings.Contains(err.Error(), policy.ErrUnrecorded.Error()) {
		t.Errorf("full: %v", err)
	}
}
