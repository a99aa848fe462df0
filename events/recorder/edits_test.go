package recorder_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/follow"
)

// evidence makes a store that has a row in every table, and its log: two chains of one
// host, one of another that lacks a record, sessions with transcripts in blocks and
// beside them, alarms, a hold, and what a rule deleted.
func evidence(t *testing.T, dir string) {
	t.Helper()
	s := open(t, dir)
	defer s.Close()
	s.Vouch(everybody{})
	key := hostKey(1)
	signed := func(h *host) []recorder.Message {
		says(h.Chain, noon.Add(time.Hour), events.Checkpoint, events.SignHead(head(h.Chain), key))
		return messages("h1", h.All())
	}
	patient := func(n byte) []events.Subject {
		return []events.Subject{{Name: "patient", Key: [16]byte{n}}, {Name: "doctor", Key: [16]byte{n, 1}}}
	}
	one := newHost("c1")
	work(one, "aaa-1")
	x := newSession("aaa-2")
	x.Workload, x.Actor, x.Principal, x.Resource = "billing", "agent-b", "dr.white", "lab"
	one.tell(events.Event{Kind: events.SessionOpen, Session: x})
	for n := range uint64(2) {
		one.tell(events.Event{Kind: events.Statement, Session: x, Number: n + 1, Command: "SELECT", Normalized: "SELECT", Verdict: events.Allow})
		one.tell(events.Event{Kind: events.Response, Session: x, Number: n + 1, Status: "ok", Rows: 1, Subjects: patient(byte(n)), Named: 2})
	}
	add(t, s, signed(one)...)
	s.KeepTranscripts(apart(t, dir))
	two := newHost("c2")
	work(two, "bbb-1")
	add(t, s, signed(two)...)
	behind := newHost("c4")
	work(behind, "late-1")
	ms := messages("h0", behind.All())
	add(t, s, slices.Delete(slices.Clone(ms), 4, 5)...)
	settle(t, s)
	add(t, s, ms[4])
	last := newHost("c3")
	work(last, "aaa-1") // of another host
	gone := newSession("gone-1")
	gone.Resource = "short"
	last.tell(events.Event{Kind: events.SessionOpen, Session: gone})
	last.chunk(gone, 1, events.ChunkStatement, "SELECT 2")
	last.tell(events.Event{Kind: events.SessionClose, Session: gone, Status: "ok"})
	on := newSession("on-1")
	last.tell(events.Event{Kind: events.SessionOpen, Session: on})
	last.chunk(on, 1, events.ChunkStatement, "SELECT 1")
	ms = messages("h2", last.All())
	add(t, s, ms[:13]...)
	add(t, s, ms[13:16]...)
	add(t, s, ms[17:]...) // which wait
	bad := ms[3]
	bad.Record.Payload = []byte("another")
	add(t, s, bad)
	for _, session := range []string{"aaa-1", "bbb-1"} {
		hold, err := s.AddHold(t.Context(), recorder.Hold{By: "counsel", Reason: "case 7", Session: session}, time.Now())
		if err == nil && session == "bbb-1" {
			err = s.ReleaseHold(t.Context(), hold, "counsel", "over", time.Now())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	logAll(t, dir, s, follow.Options{})
	o := recorder.PruneOptions{Retention: recorder.Retention{Rules: []recorder.Rule{{Name: "short", Resource: "short", Keep: keep(t, "30d")}}}}
	if got, _ := prune(t, dir, s, o, time.Now().Add(31*aDay)); len(got) != 1 {
		t.Fatal(got)
	}
	logAll(t, dir, s, follow.Options{})
}

// everybody's key is vouched for.
type everybody struct{}

func (everybody) Check(h *events.SignedHead, _ ...time.Time) (string, error) {
	return "spiffe://one.test/" + h.Host, nil
}

// shown is all that readers show of a store, and what searches find.
func shown(t *testing.T, dir string) (string, error) {
	s, err := recorder.OpenReader(dir)
	if err != nil {
		return "", err
	}
	defer s.Close()
	s.KeepTranscripts(apart(t, dir))
	var out bytes.Buffer
	var failed error
	say := func(what string, v any, err error) {
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", what, err))
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s: %s\n", what, b)
	}
	ctx := t.Context()
	all, err := s.Sessions(ctx, recorder.Filter{})
	say("all", all, err)
	filters := []recorder.Filter{
		{Since: noon.Add(5 * time.Second)}, {Until: noon.Add(5 * time.Second)}, {Table: "patients"}, {Text: "select ssn"}, {Text: "delete"}, {Limit: 2},
	}
	for _, id := range []string{"triage-bot", "billing", "agent-a", "agent-b", "dr.grey", "dr.white"} {
		filters = append(filters, recorder.Filter{Identity: id}, recorder.Filter{Workload: id}, recorder.Filter{Actor: id}, recorder.Filter{Principal: id})
	}
	for _, resource := range []string{"clinic", "lab", "short"} {
		filters = append(filters, recorder.Filter{Resource: resource})
	}
	for _, verdict := range []string{"allow", "mask", "block", "deny", "observe", "would-mask", "would-block"} {
		filters = append(filters, recorder.Filter{Verdict: verdict})
	}
	for n := range byte(3) {
		filters = append(filters, recorder.Filter{Subjects: []events.Subject{{Name: "patient", Key: [16]byte{n}}}}, recorder.Filter{Subjects: []events.Subject{{Name: "doctor", Key: [16]byte{n, 1}}}})
	}
	for i := range filters {
		found, err := s.Sessions(ctx, filters[i])
		say(fmt.Sprintf("%+v", filters[i]), found, err)
	}
	for _, x := range all {
		name := x.Host + "/" + x.ID
		found, err := s.Find(ctx, name)
		say(name, found, err)
		d, err := s.Show(ctx, x)
		say(name, d, err)
		who, err := s.Who(ctx, x)
		say(name, who, err)
		for c, err := range s.Chunks(ctx, x) {
			if recorder.IsWithheld(err) {
				fmt.Fprintln(&out, err)
				err = nil
			}
			say(name, c, err)
		}
	}
	alarms, err := s.Alarms(ctx, 0, 1000)
	say("alarms", alarms, err)
	holds, err := s.Holds(ctx)
	say("holds", holds, err)
	heads, err := s.Heads(ctx)
	say("heads", heads, err)
	newest, err := s.Newest(ctx)
	say("newest", newest, err)
	n, err := s.Meets(ctx, recorder.Hold{Subject: "patient:" + strings.Repeat("0", 32)})
	say("met", n, err)
	for r, err := range s.Records(ctx) { // what a report is made of
		say("record", r, err)
	}
	entries, err := s.Entries(ctx, 0, 1000)
	say("entries", entries, err)
	places, err := s.Places(ctx)
	for _, p := range slices.SortedFunc(maps.Keys(places), func(a, b recorder.Place) int {
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	}) {
		say(fmt.Sprint(p), places[p], err)
	}
	rep, err := s.Prune(ctx, recorder.PruneOptions{Dry: true, Late: true, Retention: recorder.Retention{Rules: []recorder.Rule{{Name: "refused", Verdict: "block", Keep: keep(t, "10d")}}}}, noon.Add(1000*aDay))
	say("due", rep, err)
	return out.String(), failed
}

// judged is what became of an edit.
type judged struct {
	refused, found, refusedRead, harmless int
	holes                                 []string
}

// judge verifies a store that was edited, and names what is shown otherwise and passes.
func (j *judged) judge(t *testing.T, dir, edit, want string) {
	t.Helper()
	rep, err := tryVerify(t, dir)
	if err != nil || len(rep.Faults) > 0 {
		j.found++
		return
	}
	got, err := shown(t, dir)
	got += reported(rep)
	switch {
	case err != nil:
		j.refusedRead++
		t.Logf("%s: passes, and is not shown: %v", edit, err)
	case got == want:
		j.harmless++
		t.Logf("%s: harmless", edit)
	default:
		j.holes = append(j.holes, edit+": "+differs(got, want))
	}
}

func differs(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			same := 0
			for same < min(len(g[i]), len(w[i])) && g[i][same] == w[i][same] {
				same++
			}
			same = max(0, same-100)
			return fmt.Sprintf("%.200s\n\twas %.200s", g[i][same:], w[i][same:])
		}
	}
	return "more or less"
}

func tryVerify(t *testing.T, dir string) (rep recorder.Report, err error) {
	s, err := recorder.OpenReader(dir)
	if err != nil {
		return rep, err
	}
	defer s.Close()
	s.KeepTranscripts(apart(t, dir))
	return recorder.Verify(t.Context(), s, recorder.Noted{Log: &recorder.Logged{Dir: recorder.LogFolder(home(dir)), Keys: logKeys(t), All: true}})
}

// table is one of a store's, with all that it holds.
type table struct {
	name    string
	columns []string
	rows    [][]any
}

func tablesOf(t *testing.T, db *sql.DB, url bool) (out []table) {
	t.Helper()
	q := `SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.cid`
	if url {
		q = `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY table_name, ordinal_position`
	}
	rows, err := db.Query(q)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, column string
		if err := rows.Scan(&name, &column); err != nil {
			t.Fatal(err)
		}
		if n := len(out); n == 0 || out[n-1].name != name {
			out = append(out, table{name: name})
		}
		x := &out[len(out)-1]
		x.columns = append(x.columns, column)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	for i := range out {
		out[i].read(t, db)
	}
	return out
}

func (x *table) list() string { return `"` + strings.Join(x.columns, `", "`) + `"` }

func (x *table) read(t *testing.T, db *sql.DB) {
	t.Helper()
	rows, err := db.Query(`SELECT ` + x.list() + ` FROM ` + x.name + ` ORDER BY ` + x.list())
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		row, to := make([]any, len(x.columns)), []any{}
		for i := range row {
			to = append(to, &row[i])
		}
		if err := rows.Scan(to...); err != nil {
			t.Fatal(err)
		}
		for i, v := range row {
			if b, ok := v.([]byte); ok && b == nil {
				row[i] = []byte{} // else it is written as null
			}
		}
		x.rows = append(x.rows, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// write has a table hold other rows; an error: the database refuses them.
func (x *table) write(t *testing.T, db *sql.DB, rows [][]any) error {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`DELETE FROM ` + x.name); err != nil {
		t.Fatal(err)
	}
	q := `INSERT INTO ` + x.name + ` (` + x.list() + `) VALUES (` + strings.TrimSuffix(strings.Repeat("?,", len(x.columns)), ",") + `)`
	for _, row := range rows {
		if _, err := tx.Exec(q, row...); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	return nil
}

// change is an edit of a table.
type change struct {
	what string
	rows [][]any
}

// changes are edits of all values of some rows, and of the rows.
func (x *table) changes(most int) (out []change) {
	at := func(i, c int, v any) [][]any {
		rows := slices.Clone(x.rows)
		rows[i] = slices.Clone(rows[i])
		rows[i][c] = v
		return rows
	}
	say := func(rows [][]any, format string, args ...any) {
		out = append(out, change{x.name + ": " + fmt.Sprintf(format, args...), rows})
	}
	say(nil, "no row")
	most = min(most, len(x.rows))
	for k := range most {
		i := (2*k + 1) * len(x.rows) / (2 * most)
		row := x.rows[i]
		say(slices.Delete(slices.Clone(x.rows), i, i+1), "row %d deleted", i)
		say(append(slices.Clone(x.rows), row), "row %d twice", i)
		for c, name := range x.columns {
			say(at(i, c, nil), "row %d: %s null", i, name)
			for k, v := range others(row[c]) {
				say(at(i, c, v), "row %d: %s other value %d", i, name, k)
				if k == 0 {
					say(append(slices.Clone(x.rows), at(i, c, v)[i]), "row %d twice, the second with another %s", i, name)
				}
			}
			j := (i + 1) % len(x.rows)
			if same(row[c], x.rows[j][c]) {
				continue
			}
			say(at(i, c, x.rows[j][c]), "row %d: %s of row %d", i, name, j)
			rows := at(i, c, x.rows[j][c])
			rows[j] = slices.Clone(rows[j])
			rows[j][c] = row[c]
			say(rows, "rows %d and %d: %s swapped", i, j, name)
		}
	}
	return out
}

func same(a, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// others are values like one, and not the same.
func others(v any) []any {
	switch v := v.(type) {
	case int64:
		out := []any{v + 1, v - 1, -v - 1, v ^ 4}
		if v != 0 {
			out = append(out, int64(0))
		}
		return out
	case string:
		out := []any{v + "x"}
		if v != "" {
			out = append(out, "", string(v[0]^1)+v[1:])
		}
		return out
	case []byte:
		out := []any{append(slices.Clone(v), 0)}
		if len(v) == 0 {
			return out
		}
		out = append(out, []byte{}, v[:len(v)-1])
		for _, i := range []int{0, len(v) / 2, len(v) - 1} {
			b := slices.Clone(v)
			b[i] ^= 1
			out = append(out, b)
		}
		return out
	}
	return nil
}

// Each value of each table, and each row, is changed by hand: what passes is shown by
// nobody, and no search goes by it.
func TestEditsOfEachColumn(t *testing.T) {
	dir := newStore(t)
	evidence(t, dir)
	want := baseline(t, dir)
	db, err := recorder.Connect(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if !recorder.IsURL(dir) {
		if _, err := db.Exec(`PRAGMA synchronous = OFF`); err != nil {
			t.Fatal(err)
		}
	}
	var j judged
	third := rand.IntN(3)
	t.Logf("of each three changes number %d", third)
	for _, x := range tablesOf(t, db, recorder.IsURL(dir)) {
		if len(x.rows) == 0 {
			t.Errorf("%s has no row", x.name)
		}
		for i, c := range x.changes(max(1, *editedRows)) {
			if *editedRows == 0 && i%3 != third {
				continue
			}
			if err := x.write(t, db, c.rows); err != nil {
				j.refused++
				continue
			}
			j.judge(t, dir, c.what, want)
			if err := x.write(t, db, x.rows); err != nil {
				t.Fatal(err)
			}
		}
	}
	j.tell(t, dir, want)
}

// editedRows are of each table: a run of all takes minutes.
var editedRows = flag.Int("edited-rows", 0, "rows of each table that TestEditsOfEachColumn changes; 0: 1, and a third of its changes, by chance")

func baseline(t *testing.T, dir string) string {
	t.Helper()
	rep, err := tryVerify(t, dir)
	if err != nil || len(rep.Faults) > 0 {
		t.Fatal(rep.Faults, err)
	}
	want, err := shown(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	return want + reported(rep)
}

// reported is what verify tells. How many records wait for others is what came so far: of
// a record that has no place in its chain yet nothing says that it was there, and its host
// keeps it.
func reported(rep recorder.Report) string {
	for i := range rep.Chains {
		rep.Chains[i].Waiting = 0
	}
	b, _ := json.Marshal(rep)
	return string(b)
}

func (j *judged) tell(t *testing.T, dir, want string) {
	t.Helper()
	if got := baseline(t, dir); got != want {
		t.Fatal("what was edited is not put back:", differs(got, want))
	}
	t.Logf("%d edits refused by the database, %d found, %d nobody is shown, %d change nothing that is shown", j.refused, j.found, j.refusedRead, j.harmless)
	for _, h := range j.holes {
		t.Error("passes, and is shown: ", h)
	}
}

// Each file of an export's log and transcripts is changed by hand.
func TestEditsOfEachFile(t *testing.T) {
	dir := newStore(t)
	evidence(t, dir)
	to := filepath.Join(t.TempDir(), "export")
	if err := recorder.Export(t.Context(), dir, home(dir), to, logKeys(t), 30*time.Second, apart(t, dir).Store); err != nil {
		t.Fatal(err)
	}
	want := baseline(t, to)
	var files []string
	if err := filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Base(path) != "records.db" {
			files = append(files, path)
			err = os.Chmod(path, 0o600)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var j judged
	for i, file := range files {
		was, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		next := files[(i+1)%len(files)]
		other, err := os.ReadFile(next)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(to, file)
		edit := func(what string, b []byte) {
			put(t, file, b)
			j.judge(t, to, name+" "+what, want)
			put(t, file, was)
		}
		edit("removed", nil)
		edit("emptied", []byte{})
		edit("cut", was[:len(was)-1])
		edit("longer", append(slices.Clone(was), 0))
		for _, k := range []int{0, len(was) / 4, len(was) / 2, len(was) - 2, len(was) - 1} {
			b := slices.Clone(was)
			b[k] ^= 1
			edit(fmt.Sprintf("byte %d changed", k), b)
		}
		put(t, next, was)
		edit("swapped with the next", other)
		put(t, next, other)
		put(t, file+"0", was)
		j.judge(t, to, name+": a stray beside it", want)
		put(t, file+"0", nil)
	}
	j.tell(t, to, want)
}

func put(t *testing.T, file string, b []byte) {
	t.Helper()
	err := os.WriteFile(file, b, 0o600)
	if b == nil {
		err = os.Remove(file)
	}
	if err != nil {
		t.Fatal(err)
	}
}
