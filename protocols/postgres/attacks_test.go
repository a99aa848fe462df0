package postgres_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/postgres"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

const attacks = "testdata/attacks/"

// Two clinics that differ in nothing but their protected values: an agent must
// not be able to tell which is which.
const (
	clinic = "clinic"
	twin   = "twin"
	// The same two, for attempts that are to work.
	bare     = "bare"
	bareTwin = "bare_twin"
)

// makeClinics makes the databases anew.
func makeClinics(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		from := "template_clinic"
		if name == twin || name == bareTwin {
			from = "template_twin"
		}
		administer(t, fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name), fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, from))
	}
}

func administer(t testing.TB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if err := server.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// protected are the tables in which the twins differ.
const protected = "clinic.patients, clinic.archived, clinic.claims_1, clinic.policies, clinic.staff, clinic.members, clinic.guarded, clinic.accounts, clinic.stays, public.history, clinic.m_patients, clinic.donors, clinic.donated, clinic.m_donors, clinic.bands_1, clinic.bands_2"

// makeTemplates makes what the clinics are copies of, with more besides.
func makeTemplates(t testing.TB, more ...string) {
	t.Helper()
	administer(t, "CREATE DATABASE template_clinic")
	run := func(database, file string, more ...string) {
		sql, err := os.ReadFile(attacks + file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := pgconn.Connect(t.Context(), server.DSN("postgres")+" dbname="+database)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(context.Background())
		// The planner must find the two alike.
		for _, text := range append([]string{postgrestest.Schema(string(sql)), "VACUUM FULL " + protected, "ANALYZE"}, more...) {
			if _, err := c.Exec(t.Context(), text).ReadAll(); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
	}
	run("template_clinic", "clinic.sql", more...)
	administer(t, "CREATE DATABASE template_twin TEMPLATE template_clinic")
	run("template_twin", "twin.sql")
	t.Cleanup(func() {
		for _, f := range stolen(t) {
			os.Remove(f)
		}
		for _, name := range []string{clinic, twin, bare, bare + twin, "template_twin", "template_clinic"} {
			_ = server.Exec(context.Background(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		}
	})
}

// passageTo starts a passage to one of the databases, and returns a connection
// string through it.
func passageTo(t testing.TB, database string) string { return passageWith(t, database, nil) }

// passageWith has a journal besides; nil: one that keeps everything.
func passageWith(t testing.TB, database string, j events.Journal) string {
	t.Helper()
	pol, err := os.ReadFile(attacks + "policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.Open(t.Context(), catalog.Options{Dial: dialServer, User: "sallyport_catalog", Database: database})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cat.Close() })
	an := rewrite.New(rewrite.Options{Parser: pool, Catalog: cat})
	p := &proxy{Passage: protocoltest.Open(t, protocoltest.Options{
		Protocol: postgres.New(postgres.Options{
			Analyzer: func(context.Context, string, string) (query.Analyzer, func(), error) { return an, func() {}, nil },
			Digest:   digest,
		}),
		Engine: engine(t, string(pol)), Server: server.Addr, Journal: j,
	}), t: t}
	return p.dsn("dbname=" + database)
}

func directTo(database string) string {
	return fmt.Sprintf("host=%s port=%d user=agent sslmode=disable dbname=%s", server.Addr.Addr(), server.Addr.Port(), database)
}

func readAttacks(t *testing.T, pattern string) []postgrestest.Attack {
	t.Helper()
	all, err := postgrestest.Attacks(attacks, pattern)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// hold holds conversations, one after the other.
func hold(t *testing.T, dsn string, in []postgrestest.Conversation) []postgrestest.Reply {
	t.Helper()
	out := make([]postgrestest.Reply, len(in))
	for i := range in {
		out[i] = postgrestest.Converse(t.Context(), dsn, &in[i])
	}
	return out
}

// stolen lists the files that attempts write where there is no passage.
func stolen(t testing.TB) []string {
	files, err := filepath.Glob(postgrestest.Stolen + "*")
	if err != nil {
		t.Error(err)
	}
	return files
}

// neighbour is another session, whose last statement is nobody's to see.
func neighbour(t *testing.T) {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	if _, err := c.Exec(t.Context(), "SELECT 1 AS canaryneighbour").ReadAll(); err != nil {
		t.Fatal(err)
	}
}

// TestAttacks: whatever an agent sends, in every protocol and format, no byte
// of what comes back is of a protected value, nor depends on one.
func TestAttacks(t *testing.T) {
	all := readAttacks(t, "[0-9]*.sql")
	makeTemplates(t)
	makeClinics(t, clinic, twin, bare, bareTwin)

	neighbour(t)
	through, other := passageTo(t, clinic), passageTo(t, twin)
	harmless := slices.DeleteFunc(readAttacks(t, "harmless.sql"), func(a postgrestest.Attack) bool { return !a.Known() })
	if len(all) < 250 || len(harmless) < 120 {
		t.Errorf("%d attempts, %d harmless statements", len(all), len(harmless))
	}

	// First where both are as they were made.
	in, of := postgrestest.Conversations(all, postgrestest.Simple)
	var replies, others []postgrestest.Reply
	both(func() { replies = hold(t, through, in) }, func() { others = hold(t, other, in) })
	for i, a := range of {
		t.Run(fmt.Sprintf("%s/%v", a.Name, in[i].Way), func(t *testing.T) {
			holds(t, a, &in[i], &replies[i])
			if x, y := alike(a, replies[i].Received), alike(a, others[i].Received); x != y {
				t.Errorf("the answer depends on protected values:\n%q\n%q", x, y)
			}
		})
	}
	in, of = postgrestest.Conversations(all, postgrestest.Ways[1:]...)
	half := len(in) / 2
	replies = make([]postgrestest.Reply, len(in))
	both(func() { copy(replies, hold(t, through, in[:half])) }, func() { copy(replies[half:], hold(t, through, in[half:])) })
	for i, a := range of {
		t.Run(fmt.Sprintf("%s/%v", a.Name, in[i].Way), func(t *testing.T) { holds(t, a, &in[i], &replies[i]) })
	}

	// What touches nothing protected comes back byte for byte as without us.
	t.Run("harmless", func(t *testing.T) {
		in, _ := postgrestest.Conversations(harmless, postgrestest.Ways...)
		next := nextOID(t, clinic)
		got, want := hold(t, through, in), hold(t, directTo(clinic), in) // one sees what the other makes
		for i := range in {
			if err := got[i].Same(&want[i], next); err != nil {
				t.Errorf("%s/%v: %v", in[i].Name, in[i].Way, err)
			}
		}
	})
	t.Run("drivers", func(t *testing.T) { testDrivers(t, through, all, harmless) })
	// Last, since they have effects.
	t.Run("direct", func(t *testing.T) {
		n := map[string]int{}
		for i := range all {
			if all[i].Known() {
				works(t, &all[i])
				n[proof(&all[i])]++
			}
		}
		t.Logf("%d attempts: %v", len(all), n)
	})
}

// both runs two halves of the work at once.
func both(f, g func()) {
	var wg sync.WaitGroup
	wg.Go(f)
	wg.Go(g)
	wg.Wait()
}

// works shows that an attempt is one: without a passage it has what it is after.
func works(t *testing.T, a *postgrestest.Attack) {
	t.Helper()
	text := strings.Join(a.Statements, "\n")
	c := postgrestest.Conversation{Name: a.Name, Statements: a.Statements, Login: a.Login}
	changed := changes.MatchString(text)
	c.Undo = changed && a.Effect == "" && !final.MatchString(text)
	got := postgrestest.Converse(t.Context(), directTo(bare), &c)
	var other postgrestest.Reply
	if a.Tells {
		other = postgrestest.Converse(t.Context(), directTo(bareTwin), &c)
	}
	if err := a.Works(&got, &other); err != nil {
		t.Errorf("%s: %v", a.Name, err)
	}
	if a.Effect != "" && !finds(t, bare, a.Effect) {
		t.Errorf("%s has no effect: %s", a.Name, got.Rows)
	}
	if changed && !c.Undo && (!opens.MatchString(text) || closes.MatchString(text)) {
		makeClinics(t, bare)
		if a.Tells {
			makeClinics(t, bareTwin)
		}
	}
}

// changes finds statements after which a database is not fit for another
// attempt; final those that no transaction undoes, or that hold their own. What opens
// one that nothing closes is undone when its session ends.
var (
	opens   = regexp.MustCompile(`(?i)^begin\b`)
	closes  = regexp.MustCompile(`(?i)\b(commit|end|rollback|nextval|setval|prepare transaction)\b`)
	changes = regexp.MustCompile(`(?i)\b(insert|update|delete|merge|create|alter|drop|truncate|grant|refresh|from stdin|nextval|setval|lo_[a-z_]+|call 764)\b`)
	final   = regexp.MustCompile(`(?im)^>|\b(begin|commit|rollback|vacuum|checkpoint|alter system|nextval|setval|discard|stdout|publication)\b`)
)

func proof(a *postgrestest.Attack) string {
	switch {
	case a.Leaks():
		return "carry a value out"
	case a.Tells:
		return "tell of one"
	case a.Effect != "":
		return "do something"
	}
	return "show something"
}

func holds(t *testing.T, a *postgrestest.Attack, c *postgrestest.Conversation, got *postgrestest.Reply) {
	t.Helper()
	if err := a.Holds(c.Way, got); err != nil {
		t.Error(err)
	}
	if a.Effect != "" && finds(t, clinic, a.Effect) {
		t.Errorf("it has its effect: %s", a.Effect)
	}
}

var sessionWords = regexp.MustCompile(`"session":"[^"]*","statement":\d+|pg_temp_\d+`)

// alike is what came back without what differs in any two sessions, and in
// order only where an order was asked for.
func alike(a *postgrestest.Attack, b []byte) string {
	var messages []string
	for b = postgrestest.Timeless(b, 16384); len(b) >= 5; {
		n := min(int(binary.BigEndian.Uint32(b[1:]))+1, len(b))
		messages, b = append(messages, string(b[:1])+sessionWords.ReplaceAllString(string(b[min(5, n):n]), "")), b[n:]
	}
	if !strings.Contains(strings.ToUpper(strings.Join(a.Statements, " ")), "ORDER BY") {
		slices.Sort(messages)
	}
	return strings.Join(append(messages, string(b)), "\n")
}

// nextOID returns a number above those of all relations that there are.
func nextOID(t testing.TB, database string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(value(t, database, "SELECT max(oid)::bigint + 1 FROM pg_class"), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// finds runs a query for one boolean, past everything.
func finds(t *testing.T, database, sql string) bool { return value(t, database, sql) == "t" }

func value(t testing.TB, database, sql string) string {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), server.DSN("postgres")+" dbname="+database)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	r := c.ExecParams(t.Context(), sql, nil, nil, nil, nil).Read()
	if r.Err != nil || len(r.Rows) != 1 {
		t.Fatalf("%s: %d rows, %v", sql, len(r.Rows), r.Err)
	}
	return string(r.Rows[0][0])
}
