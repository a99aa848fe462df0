package recorder

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
)

// tally is what a session's records say of it, to be held against its row.
type tally struct {
	sessionState // as of the records alone
	row          listedRow
	chain        string  // of the first record
	first        uint64  // its number
	guessed      bool    // its first record had no time that can be read
	late         bool    // records came late: what depends on their order can't be told
	told         []word  // what any record said of who and how it ended, where late
	ends         []int64 // when any record said that it ended, where late
	decided      int64   // records that say what was decided
	latest       uint64  // the greatest number of a statement that was
	again        bool    // one was decided more than once: how many there were depends on the order
	listed       int     // subjects that are listed with it
	odd          *seen   // one of them that no record tells of
}

// listing holds the rows of sessions, which are what lists show, against the
// records of a host.
type listing struct {
	ctx     context.Context
	tx      *sql.Tx
	stmts   map[string]*sql.Stmt // by their text
	open    map[string]*tally    // those of the host that have records to come
	checked idSet                // rows that were held against records
}

func newListing(ctx context.Context, tx *sql.Tx) *listing {
	return &listing{ctx: ctx, tx: tx, stmts: map[string]*sql.Stmt{}, open: map[string]*tally{}}
}

func (l *listing) close() {
	for _, st := range l.stmts {
		st.Close()
	}
}

// query asks by a statement that is prepared once.
func (l *listing) query(text string, args []any) (*sql.Rows, error) {
	st := l.stmts[text]
	if st == nil {
		var err error
		if st, err = l.tx.PrepareContext(l.ctx, text); err != nil {
			return nil, err
		}
		l.stmts[text] = st
	}
	return st.QueryContext(l.ctx, args...)
}

// rowsAtOnce are so many sessions that are asked for together.
const rowsAtOnce = 256

// inTwos gives a list in pieces, the length of each a power of two and at most most:
// of what is asked for each there are then few statements.
func inTwos[T any](list []T, most int) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		for n := most; len(list) > 0; {
			for n > len(list) {
				n /= 2
			}
			if !yield(list[:n]) {
				return
			}
			list = list[n:]
		}
	}
}

// listedRow is a session's row, with what it lists.
type listedRow struct {
	sessionState
	covers bool  // the records of a chain that were asked about are in one of its spans
	end    int64 // the last of that chain that it lists
	chains int   // that it lists
	shown  bool  // rows of somebody
}

// rows fills in the rows of sessions of a host. Of one that has none the id is 0.
func (l *listing) rows(host, chain string, of []*tally, spans map[string]span) error {
	var q strings.Builder
	q.WriteString("WITH asked (session, first, last) AS (VALUES (CAST(?3 AS TEXT), CAST(?4 AS BIGINT), CAST(?5 AS BIGINT))")
	args := []any{host, chain}
	by := make(map[string]*tally, len(of))
	for i, t := range of {
		if i > 0 {
			fmt.Fprintf(&q, ", (?%d, ?%d, ?%d)", 3*i+3, 3*i+4, 3*i+5)
		}
		p := spans[t.session]
		args = append(args, t.session, int64(p.first), int64(p.last))
		by[t.session], t.row = t, listedRow{}
	}
	// Those that are asked for come first, and each is looked up.
	q.WriteString(") SELECT s.session, " + sessionValues + `,
		EXISTS (SELECT 1 FROM spans p WHERE p.session = s.id AND p.chain = ?2 AND p.first <= asked.first AND p.last >= asked.last),
		(SELECT coalesce(max(p.last), 0) FROM spans p WHERE p.session = s.id AND p.chain = ?2), (SELECT count(DISTINCT p.chain) FROM spans p WHERE p.session = s.id),
		EXISTS (SELECT 1 FROM subjects x WHERE x.session = s.id)
		FROM asked CROSS JOIN sessions s WHERE s.host = ?1 AND s.session = asked.session`)
	rows, err := l.query(q.String(), args)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var session string
		var r listedRow
		if err := r.scan(func(to ...any) error {
			return rows.Scan(append(append([]any{&session}, to...), &r.covers, &r.end, &r.chains, &r.shown)...)
		}); err != nil {
			return err
		}
		t := by[session]
		if t == nil {
			return fmt.Errorf("session %q was not asked for", session)
		}
		t.row = r
	}
	return rows.Err()
}

// note takes in what a record says of its session.
func (l *listing) note(host string, r *events.Record, f *Facts, err error, late bool) {
	t := l.open[r.Session]
	if t == nil {
		t = &tally{sessionState: sessionState{host: host, session: r.Session}, chain: r.Chain, first: r.Seq}
		l.open[r.Session] = t
	}
	t.late = t.late || late || t.chain != r.Chain
	if err != nil {
		t.guessed = t.guessed || t.opened == 0 || errors.Is(err, errBlind)
		return
	}
	t.sessionState.note(r, f)
	switch r.Kind {
	case events.SessionOpen, events.Login, events.SessionClose:
		said := sessionState{protocol: r.Protocol, who: f.Who, status: t.status}
		for _, x := range said.words() {
			empty := x.is == "" && r.Kind != events.SessionClose // which takes no other's place
			if !empty && !slices.Contains(t.told, x) && len(t.told) < 1000 {
				t.told = append(t.told, x)
			}
		}
		if !slices.Contains(t.ends, t.closed) && len(t.ends) < 1000 {
			t.ends = append(t.ends, t.closed)
		}
	}
	switch r.Kind {
	case events.Statement, events.Block, events.Login:
		t.decided++
		t.again = t.again || f.Number != 0 && f.Number <= t.latest
		t.latest = max(t.latest, f.Number)
	}
}

// block judges the sessions of a block's records: each must list them, and its
// row must be what they say once the last one is there.
func (l *listing) block(w *walker, order []string, spans map[string]span, last uint64) error {
	of := make([]*tally, len(order))
	for i, session := range order {
		of[i] = l.open[session]
	}
	for some := range inTwos(of, rowsAtOnce) {
		if err := l.rows(w.host, w.chain, some, spans); err != nil {
			return err
		}
		var done []*tally
		var hidden *tally
		for _, t := range some {
			if !t.row.covers {
				hidden = t
				break
			}
			if t.row.chains == 1 && t.row.end <= int64(last) {
				done = append(done, t)
			}
		}
		if err := l.judge(w, done); err != nil {
			return err
		}
		if hidden != nil {
			w.bad(spans[hidden.session].first, "hidden", "its session %s does not list it", hidden.session)
			return nil
		}
	}
	return nil
}

// rest judges what has no more records: of a chain those of this one alone, and
// at the end of a host all.
func (l *listing) rest(w *walker, all bool) error {
	of := slices.SortedFunc(maps.Values(l.open), func(x, y *tally) int { return cmp.Compare(x.first, y.first) })
	if !all {
		of = slices.DeleteFunc(of, func(t *tally) bool { return t.row.chains != 1 })
	}
	for some := range inTwos(of, rowsAtOnce) {
		if err := l.judge(w, some); err != nil {
			return err
		}
	}
	return nil
}

// judge holds the rows of sessions, which are there, against their records.
func (l *listing) judge(w *walker, of []*tally) error {
	shown := map[int64]*tally{}
	for _, t := range of {
		delete(l.open, t.session)
		l.checked.add(t.row.id)
		if t.row.shown || len(t.seen) > 0 {
			shown[t.row.id] = t
		}
	}
	if err := l.sightings(shown); err != nil {
		return err
	}
	for _, t := range of {
		what, is, says := t.differs(&t.row.sessionState)
		if what == "" {
			what, is, says = t.misnames()
		}
		if what != "" {
			w.bad(t.first, "misstated", "the list has its session %s with %s %q, its records say %q", t.session, what, is, says)
		}
	}
	return nil
}

// word is one of what a session's row says in words.
type word struct{ name, is string }

func (s *sessionState) words() [9]word {
	w := &s.who
	return [...]word{
		{"protocol", s.protocol},
		{"resource", w.Resource},
		{"destination", w.Destination},
		{"workload", w.Workload},
		{"actor", w.Actor},
		{"principal", w.Principal},
		{"user", w.User},
		{"database", w.Database},
		{"status", s.status},
	}
}

// differs names what of a row is not what the records say.
func (t *tally) differs(row *sessionState) (what, is, says string) {
	have, want := row.words(), t.words()
	for i, x := range have {
		if x != want[i] && !(t.late && slices.Contains(t.told, x)) {
			return x.name, x.is, want[i].is
		}
	}
	if !t.late && (row.number != t.number || row.verdict != t.verdict) {
		return "a latest statement", fmt.Sprintf("%d: %s", row.number, row.verdict), fmt.Sprintf("%d: %s", t.number, t.verdict)
	}
	for _, x := range [...]struct {
		name     string
		is, says int64
		order    bool // it depends on the order in which the records came
	}{
		{"the beginning", row.opened, t.opened, false},
		{"the end", row.closed, t.closed, true},
		{"a number of statements", row.statements, t.statements, true},
		{"a number of masked statements", row.masked, t.masked, true},
		{"a number of refused statements", row.refused, t.refused, true},
		{"a number of rows", row.rows, t.rows, false},
		{"verdicts", row.verdicts, t.verdicts, false},
	} {
		switch {
		case x.is == x.says:
		case x.name == "the beginning" && t.guessed && (t.opened == 0 || x.is < t.opened):
		case x.order && t.late && x.name == "the end" && slices.Contains(t.ends, x.is) && (x.is != 0) == (x.says != 0):
		case x.order && t.late && t.again && x.name != "the end" && x.is >= 0 && x.is <= t.decided && (x.is > 0) == (x.says > 0):
		case x.name == "the beginning" || x.name == "the end":
			return x.name, when(x.is), when(x.says)
		default:
			return x.name, fmt.Sprint(x.is), fmt.Sprint(x.says)
		}
	}
	return "", "", ""
}

func when(ns int64) string {
	if ns == 0 {
		return ""
	}
	return unixNano(ns).UTC().Format(time.RFC3339Nano)
}

// invented names a session that is listed and has no records, of hosts whose
// chains are sound.
func (l *listing) invented(tx *sql.Tx, unsound map[string]bool) (*Fault, error) {
	var n int64
	if err := tx.QueryRowContext(l.ctx, `SELECT count(*) FROM sessions`).Scan(&n); err != nil || n == l.checked.n {
		return nil, err // what was held against records is listed: there is no more
	}
	rows, err := tx.QueryContext(l.ctx, `SELECT id, host, session FROM sessions ORDER BY id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var host, session string
		if err := rows.Scan(&id, &host, &session); err != nil {
			return nil, err
		}
		if !l.checked.has(id) && !unsound[host] {
			return &Fault{Host: host, What: "invented", Detail: fmt.Sprintf("session %s is listed, and no record is of it", session)}, nil
		}
	}
	return nil, rows.Err()
}

// lateOnes gives the numbers of the records of a chain that came late.
func lateOnes(ctx context.Context, tx *sql.Tx, host, chain string) (map[uint64]bool, error) {
	rows, err := tx.QueryContext(ctx, `SELECT seq FROM alarms WHERE host = ? AND chain = ? AND what = 'late'`, host, chain)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out map[uint64]bool
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, err
		}
		if out == nil {
			out = map[uint64]bool{}
		}
		out[uint64(seq)] = true
	}
	return out, rows.Err()
}

// idSet is a set of row ids, which are small numbers where nobody chose them.
type idSet struct {
	n    int64 // how many
	bits []uint64
	far  map[int64]bool
}

const nearIDs = 1 << 30 // 128 MiB at most

func (s *idSet) add(id int64) {
	if s.has(id) {
		return
	}
	s.n++
	if id < 0 || id >= nearIDs {
		if s.far == nil {
			s.far = map[int64]bool{}
		}
		s.far[id] = true
		return
	}
	if n := int(id/64) + 1; n > len(s.bits) {
		s.bits = append(s.bits, make([]uint64, n-len(s.bits))...)
	}
	s.bits[id/64] |= 1 << (id % 64)
}

func (s *idSet) has(id int64) bool {
	if id < 0 || id >= nearIDs {
		return s.far[id]
	}
	return int(id/64) < len(s.bits) && s.bits[id/64]&(1<<(id%64)) != 0
}
