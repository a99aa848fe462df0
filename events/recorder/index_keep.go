package recorder

import (
	"slices"
	"strings"
)

// rowsTogether are so many rows that a server is asked for, or given, at once: else
// what a session costs is the way to the server and back.
const rowsTogether = 128

// together is how many rows are read or written by one statement.
func (a *adder) together() int {
	if a.embedded {
		return 1
	}
	return rowsTogether
}

// foresee reads the rows of the sessions of a batch before they are asked for one by one.
func (a *adder) foresee(batch []Message) error {
	if a.together() == 1 {
		return nil
	}
	a.foreseen = map[[2]string]*sessionState{}
	of := map[string][]string{} // by host
	for i := range batch {
		m := &batch[i]
		key := [2]string{m.Host, m.Record.Session}
		if m.Err != nil || m.Record.Session == "" || a.foreseen[key] != nil || m.Record.CheckNames() != nil {
			continue
		}
		a.foreseen[key] = &sessionState{host: m.Host, session: m.Record.Session}
		of[m.Host] = append(of[m.Host], m.Record.Session)
	}
	for host, ids := range of {
		for some := range inTwos(ids, a.together()) {
			if err := a.foreseeSome(host, some); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *adder) foreseeSome(host string, ids []string) error {
	args := []any{host}
	for _, id := range ids {
		args = append(args, id)
	}
	rows, err := a.tx.QueryContext(a.ctx, `SELECT session, `+sessionValues+` FROM sessions WHERE host = ? AND session IN (`+marks(len(ids))+`)`, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var s sessionState
		if err := s.scan(func(to ...any) error { return rows.Scan(append([]any{&id}, to...)...) }); err != nil {
			return err
		}
		s.host, s.session = host, id
		a.foreseen[[2]string{host, id}] = &s
	}
	return rows.Err()
}

// marks are so many placeholders.
func marks(n int) string { return "?" + strings.Repeat(",?", n-1) }

// values stores rows of values that stand behind what begins a statement, and before
// what ends it. Each row is written, no less, unless some says otherwise.
func (a *adder) values(begin string, rows [][]any, end string, some bool) error {
	for part := range inTwos(rows, a.together()) {
		row := ", (" + marks(len(part[0])) + ")"
		res, err := a.do(begin+strings.Repeat(row, len(part))[1:]+end, slices.Concat(part...))
		if err == nil && !some {
			err = stored(res, len(part))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sessionColumnsKept are those that row gives.
var sessionColumnsKept = [...]string{
	"protocol", "resource", "destination", "workload", "actor", "principal", `"user"`, "db", "opened", "closed", "status",
	"statements", "masked", "refused", "rows", "verdicts", "number", "verdict",
}

func (s *sessionState) row() []any {
	w := &s.who
	return []any{
		s.protocol, w.Resource, w.Destination, w.Workload, w.Actor, w.Principal, w.User, w.Database, s.opened, s.closed, s.status,
		s.statements, s.masked, s.refused, s.rows, s.verdicts, int64(s.number), s.verdict,
	}
}

// keep stores what sessions have become.
func (a *adder) keep(sessions map[[2]string]*sessionState) error {
	var fresh, moved []*sessionState
	var spans, subjects [][]any
	for _, s := range sessions {
		if s.id == 0 {
			fresh = append(fresh, s)
		} else if s.moved {
			moved = append(moved, s)
		}
	}
	for some := range inTwos(fresh, a.together()) {
		if err := a.keepFresh(some); err != nil {
			return err
		}
	}
	for some := range inTwos(moved, a.together()) {
		if err := a.keepMoved(some); err != nil {
			return err
		}
	}
	for _, s := range sessions {
		for _, p := range s.spans {
			spans = append(spans, []any{s.id, p.chain, p.first, p.last})
		}
		for x := range s.seen {
			subjects = append(subjects, []any{x.Name, x.Key[:], s.id, int64(x.number)})
		}
		clear(s.seen)
	}
	if err := a.values(`INSERT INTO spans VALUES`, spans, ` ON CONFLICT (session, chain, first)
		DO UPDATE SET last = CASE WHEN excluded.last > spans.last THEN excluded.last ELSE spans.last END`, false); err != nil {
		return err
	}
	return a.values(`INSERT INTO subjects VALUES`, subjects, ` ON CONFLICT DO NOTHING`, true)
}

// keepFresh stores sessions that have no row yet, and notes its id.
func (a *adder) keepFresh(some []*sessionState) error {
	var args []any
	by := map[[2]string]*sessionState{}
	for _, s := range some {
		args = append(append(args, s.host, s.session), s.row()...)
		by[[2]string{s.host, s.session}] = s
	}
	row := ", (" + marks(2+len(sessionColumnsKept)) + ")"
	query := `INSERT INTO sessions (host, session, ` + strings.Join(sessionColumnsKept[:], ", ") + `) VALUES` + strings.Repeat(row, len(some))[1:]
	if a.embedded {
		// With RETURNING, SQLite keeps what it changes in a file, to undo the statement.
		res, err := a.do(query, args)
		if err == nil {
			err = stored(res, 1)
		}
		if err == nil {
			some[0].id, err = res.LastInsertId()
		}
		return err
	}
	rows, err := a.tx.QueryContext(a.ctx, query+` RETURNING host, session, id`, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key [2]string
		var id int64
		if err := rows.Scan(&key[0], &key[1], &id); err != nil {
			return err
		}
		if s := by[key]; s != nil {
			s.id = id
			delete(by, key)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(by) > 0 {
		return notWritten(int64(len(some)-len(by)), len(some))
	}
	return nil
}

// keepMoved stores sessions whose rows have changed.
func (a *adder) keepMoved(some []*sessionState) error {
	var q strings.Builder
	var args []any
	q.WriteString(`UPDATE sessions SET `)
	for i, c := range sessionColumnsKept {
		if i > 0 {
			q.WriteString(", ")
		}
		q.WriteString(c + " = ")
		if len(some) == 1 {
			q.WriteString("?")
		} else {
			q.WriteString("v." + c)
		}
	}
	if len(some) == 1 {
		return a.store(q.String()+` WHERE id = ?`, append(some[0].row(), some[0].id)...)
	}
	q.WriteString(` FROM (VALUES (`)
	for _, v := range some[0].row() {
		if _, text := v.(string); text {
			q.WriteString("CAST(? AS TEXT), ")
		} else {
			q.WriteString("CAST(? AS BIGINT), ")
		}
	}
	q.WriteString(`CAST(? AS BIGINT))` + strings.Repeat(", ("+marks(len(sessionColumnsKept)+1)+")", len(some)-1) +
		`) AS v (` + strings.Join(sessionColumnsKept[:], ", ") + `, id) WHERE sessions.id = v.id`)
	for _, s := range some {
		args = append(append(args, s.row()...), s.id)
	}
	res, err := a.do(q.String(), args)
	if err != nil {
		return err
	}
	return stored(res, len(some))
}
