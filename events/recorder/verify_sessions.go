package recorder

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"sallyport.dev/sallyport/events"
)

// tally is what a session's records say of it, to be held against its row.
type tally struct {
	sessionState         // as of the records alone
	chain        string  // of the first record
	first        uint64  // its number
	end          uint64  // the last of the chain that the row lists
	chains       int     // that the row lists
	guessed      bool    // its first record had no time that can be read
	late         bool    // records came late: what depends on their order can't be told
	told         []word  // what any record said of who and how it ended, where late
	ends         []int64 // when any record said that it ended, where late
	decided      int64   // records that say what was decided
	latest       uint64  // the greatest number of a statement that was
	again        bool    // one was decided more than once: how many there were depends on the order
}

// listing holds the rows of sessions, which are what lists show, against the
// records of a host.
type listing struct {
	ctx     context.Context
	row     *sql.Stmt
	place   *sql.Stmt
	seen    *sql.Stmt
	open    map[string]*tally // those of the host that have records to come
	checked idSet             // rows that were held against records
}

func newListing(ctx context.Context, tx *sql.Tx) (l *listing, err error) {
	l = &listing{ctx: ctx, open: map[string]*tally{}}
	if l.row, err = tx.PrepareContext(ctx, sessionRow); err != nil {
		return nil, err
	}
	if l.seen, err = tx.PrepareContext(ctx, `SELECT name, key, statement FROM subjects WHERE session = ?`); err != nil {
		return l, err
	}
	l.place, err = tx.PrepareContext(ctx, `SELECT EXISTS (SELECT 1 FROM spans WHERE session = s.id AND chain = ?3 AND first <= ?4 AND last >= ?5),
		(SELECT coalesce(max(last), 0) FROM spans WHERE session = s.id AND chain = ?3), (SELECT count(DISTINCT chain) FROM spans WHERE session = s.id)
		FROM sessions s WHERE host = ?1 AND session = ?2`)
	return l, err
}

func (l *listing) close() {
	for _, st := range []*sql.Stmt{l.row, l.place, l.seen} {
		if st != nil {
			st.Close()
		}
	}
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
	for _, session := range order {
		t, p := l.open[session], spans[session]
		var covers bool
		err := l.place.QueryRowContext(l.ctx, w.host, session, w.chain, int64(p.first), int64(p.last)).Scan(&covers, &t.end, &t.chains)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if !covers {
			w.bad(p.first, "hidden", "its session %s does not list it", session)
			return nil
		}
		if t.chains == 1 && t.end <= last {
			if err := l.judge(w, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// rest judges what has no more records: of a chain those of this one alone, and
// at the end of a host all.
func (l *listing) rest(w *walker, all bool) error {
	for _, t := range slices.SortedFunc(maps.Values(l.open), func(x, y *tally) int { return cmp.Compare(x.first, y.first) }) {
		if all || t.chains == 1 {
			if err := l.judge(w, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge holds a session's row against its records.
func (l *listing) judge(w *walker, t *tally) error {
	delete(l.open, t.session)
	var row sessionState
	err := row.scan(l.row.QueryRowContext(l.ctx, t.host, t.session).Scan)
	if err != nil {
		return err
	}
	l.checked.add(row.id)
	what, is, says := t.differs(&row)
	if what == "" {
		if what, is, says, err = l.misnames(t, row.id); err != nil {
			return err
		}
	}
	if what != "" {
		w.bad(t.first, "misstated", "the list has its session %s with %s %q, its records say %q", t.session, what, is, says)
	}
	return nil
}

// word is one of what a session's row says in words.
type word struct{ name, is string }

func (s *sessionState) words() [9]word {
	w := &s.who
	return [...]word{
		{"protocol", s.protocol}, {"resource", w.Resource}, {"destination", w.Destination}, {"workload", w.Workload}, {"actor", w.Actor},
		{"principal", w.Principal}, {"user", w.User}, {"database", w.Database}, {"status", s.status},
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
	bits []uint64
	far  map[int64]bool
}

const nearIDs = 1 << 30 // 128 MiB at most

func (s *idSet) add(id int64) {
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
