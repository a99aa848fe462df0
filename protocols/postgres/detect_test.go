package postgres_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

const detectors = "testdata/detectors/"

// undeclared is what nobody declared, and detectors are to find.
func undeclared(b []byte) string {
	low := strings.ToLower(string(b))
	for _, v := range []string{"219-09-9847", "219099847", "ann.walker@", "2199-099-99847"} {
		if i := strings.Index(low, v); i >= 0 {
			return low[max(0, i-60):min(len(low), i+60)]
		}
	}
	return ""
}

// makeWards makes what testdata/detectors is about, and a passage to it.
func makeWards(t *testing.T) *proxy {
	t.Helper()
	schema, err := os.ReadFile(detectors + "schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	pol, err := os.ReadFile(detectors + "policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	administer(t, string(schema))
	t.Cleanup(func() {
		if err := server.Exec(context.Background(), "DROP SCHEMA wards CASCADE; DROP TABLE public.open_notes"); err != nil {
			t.Error(err)
		}
	})
	return start(t, string(pol))
}

func readCases(t *testing.T, file string) []postgrestest.Attack {
	t.Helper()
	all, err := postgrestest.Attacks(detectors, file)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestDetectors: in whatever way a statement comes, what detectors know is not in
// its answer; and what they find nothing in comes back byte for byte.
func TestDetectors(t *testing.T) {
	p := makeWards(t)
	all := readCases(t, "attacks.sql")
	in, _ := postgrestest.Conversations(all, postgrestest.Ways...)
	for i, got := range hold(t, p.dsn(""), in) {
		name := fmt.Sprintf("%s/%v", in[i].Name, in[i].Way)
		if v := undeclared(got.Received); v != "" {
			t.Errorf("%s: %q", name, v)
		}
		if got.Failed != "" || got.Ended || got.Refused != "" {
			t.Errorf("%s: %s%s, ended %v", name, got.Failed, got.Refused, got.Ended)
		}
		if in[i].Way == postgrestest.Simple && !strings.Contains(string(got.Received), "[ssn]") && !strings.Contains(string(got.Received), "[email]") {
			t.Errorf("%s: nothing was found: %q", name, got.Received)
		}
	}
	direct := fmt.Sprintf("host=%s port=%d user=agent sslmode=disable dbname=postgres", server.Addr.Addr(), server.Addr.Port())
	for i := range all {
		c := postgrestest.Conversation{Name: all[i].Name, Statements: all[i].Statements, Undo: !strings.Contains(all[i].Statements[0], "BEGIN") && all[i].Statements[0][0] != '>'}
		if c.Undo && (strings.Contains(strings.Join(all[i].Statements, " "), "COMMIT") || strings.Contains(c.Name, "notification")) {
			c.Undo = false
		}
		if got := postgrestest.Converse(t.Context(), direct, &c); undeclared(got.Received) == "" {
			t.Errorf("%s: it shows nothing without a passage: %s %q", c.Name, got.Failed, got.Received)
		}
	}
	harmless := readCases(t, "harmless.sql")
	in, _ = postgrestest.Conversations(harmless, postgrestest.Ways...)
	through, want := hold(t, p.dsn(""), in), hold(t, direct, in)
	next := nextOID(t, "postgres")
	for i := range in {
		if err := through[i].Same(&want[i], next); err != nil {
			t.Errorf("%s/%v: %v", in[i].Name, in[i].Way, err)
		}
	}
}

// The outcome tells what was found, how often and where, and the statement's
// event the rule; neither what it was.
func TestDetectorsOnTheRecord(t *testing.T) {
	p := makeWards(t)
	c, err := pgconn.Connect(t.Context(), p.dsn(""))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for _, sql := range []string{
		"SELECT id, body, short || '' AS x FROM wards.notes ORDER BY id",
		"SELECT other FROM wards.part",
		"COPY wards.notes (short) TO STDOUT",
		"SELECT body FROM public.open_notes",
	} {
		if strings.HasPrefix(sql, "COPY") {
			_, err = c.CopyTo(t.Context(), new(strings.Builder), sql)
		} else {
			_, err = c.Exec(t.Context(), sql).ReadAll()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.settled()
	body := events.Field{Schema: "wards", Relation: "notes", Column: "body"}
	want := [][]events.Detection{
		{{Column: 2, Field: body, Kind: "ssn", Count: 1}, {Column: 2, Field: body, Kind: "email", Count: 1}, {Column: 3, Kind: "ssn", Count: 1}},
		nil,
		{{Kind: "ssn", Count: 1}},
		nil,
	}
	var got [][]events.Detection
	for _, e := range p.Journal.Events(events.Response) {
		got = append(got, e.Detected)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("detected %v,\nnot %v", got, want)
	}
	for i, e := range p.Journal.Events(events.Statement) {
		if slices.Contains(e.Rules, "identifiers in notes") != (i < 3) {
			t.Errorf("%s: by rules %q", e.Normalized, e.Rules)
		}
		if v := undeclared([]byte(fmt.Sprintf("%+v", e))); v != "" {
			t.Errorf("the event holds %q", v)
		}
	}
}
