package postgrestest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Way is how a statement travels.
type Way int

const (
	Simple         Way = iota
	ExtendedText       // results in text
	ExtendedBinary     // results in binary
	Pipelined          // all at once, each with its Sync, results fetched in two pieces
	Cursor             // DECLARE and FETCH
)

// Ways are all of them.
var Ways = []Way{Simple, ExtendedText, ExtendedBinary, Pipelined, Cursor}

func (w Way) String() string {
	return [...]string{"simple", "text", "binary", "pipelined", "cursor"}[w]
}

// Conversation is what a client is to send in one session.
type Conversation struct {
	Name       string
	Way        Way
	Statements []string
	Login      string // "name=value"
	Undo       bool   // in a transaction that is rolled back; an error undoes its statement only
}

// Conversations lists what there is to say, in all of the ways that differ.
func Conversations(all []Attack, ways ...Way) (out []Conversation, of []*Attack) {
	for i := range all {
		for _, w := range ways {
			c := Conversation{Name: all[i].Name, Way: w, Login: all[i].Login}
			travels := false
			for _, s := range all[i].Statements {
				if s = w.form(s); s != "" {
					c.Statements = append(c.Statements, s)
					travels = travels || w == Simple || w == Cursor && query(s) || w != Cursor && s[0] != '>'
				}
			}
			if travels {
				out, of = append(out, c), append(of, &all[i])
			}
		}
	}
	return out, of
}

// form returns a statement as far as it can travel that way: several in one
// text only in the simple protocol, COPY from the client not in a pipeline.
func (w Way) form(s string) string {
	if w != Simple && s[0] != '>' && strings.Contains(s, "; ") || w == Pipelined && strings.Contains(strings.ToUpper(s), "FROM STDIN") {
		return ""
	}
	return s
}

// query reports a statement that a cursor can be declared for.
func query(s string) bool {
	up := strings.ToUpper(s)
	if strings.Contains(s, "; ") || strings.HasPrefix(up, "WITH") && strings.Contains(up, ") INSERT INTO") {
		return false
	}
	for _, word := range []string{"SELECT", "VALUES", "TABLE", "WITH", "("} {
		if strings.HasPrefix(up, word) {
			return true
		}
	}
	return false
}

// Reply is what came back.
type Reply struct {
	Received []byte // every byte after the session's start
	Rows     string // rows and tags in simple form
	Refused  string // sallyport's own words, "" when nothing was refused
	Ended    bool   // messages of ours ended the session
	Failed   string // what ended it early
}

// tape keeps what a connection receives.
type tape struct {
	net.Conn
	mu sync.Mutex
	b  []byte
}

func (t *tape) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[:n]...)
	return n, err
}

func (t *tape) take() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.b
	t.b = nil
	return b
}

// Converse holds a conversation with the server of a connection string; ""
// takes it from the environment.
func Converse(ctx context.Context, dsn string, in *Conversation) (a Reply) {
	if err := a.converse(ctx, dsn, in); err != nil {
		a.Failed = err.Error()
	}
	return a
}

func (a *Reply) converse(ctx context.Context, dsn string, in *Conversation) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s, err := Connect(ctx, dsn, in.Login)
	if err != nil {
		if in.Login != "" && s != nil {
			a.Ended, a.Received = true, s.tape.take()
			a.refusal(err)
			return nil
		}
		return err
	}
	defer s.Close()
	statements := make([]string, len(in.Statements))
	for i, q := range in.Statements {
		statements[i] = strings.ReplaceAll(q, "{database}", s.database)
	}
	if in.Way == Pipelined {
		err = a.pipeline(ctx, s.conn, statements)
	} else {
		err = a.each(ctx, s.conn, in, statements)
	}
	a.Received = append(a.Received, s.tape.take()...)
	return err
}

// Session is one in which statements are sent one by one.
type Session struct {
	conn     *pgconn.PgConn
	tape     *tape
	database string
}

// Connect opens a session at the server of a connection string, with one parameter
// more, "name=value". Where the login fails the Session holds what was received.
func Connect(ctx context.Context, dsn, login string) (*Session, error) {
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if k, v, ok := strings.Cut(login, "="); ok {
		cfg.RuntimeParams[k] = v
	}
	var s *Session
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		s = &Session{tape: &tape{Conn: c}}
		return s.tape, err
	}
	c, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return s, err
	}
	s.conn, s.database = c, cfg.Database
	s.tape.take()
	return s, nil
}

// Send sends a statement and returns what came back.
func (s *Session) Send(ctx context.Context, w Way, sql string) (a Reply) {
	var err error
	if w == Pipelined {
		err = a.pipeline(ctx, s.conn, []string{sql})
	} else {
		err = a.send(ctx, s.conn, w, sql)
	}
	if err != nil {
		a.Failed = err.Error()
	}
	a.Received = s.tape.take()
	return a
}

// Close ends the session.
func (s *Session) Close() { s.conn.Close(context.Background()) }

func (a *Reply) each(ctx context.Context, c *pgconn.PgConn, in *Conversation, statements []string) error {
	aside := func(sql string) error {
		if !in.Undo {
			return nil
		}
		_, err := c.Exec(ctx, sql).ReadAll()
		return err
	}
	if err := aside("BEGIN; SAVEPOINT undo"); err != nil {
		return err
	}
	for _, sql := range statements {
		if a.Ended {
			return nil
		}
		if err := a.send(ctx, c, in.Way, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		keep := "SAVEPOINT undo"
		if c.TxStatus() == 'E' {
			keep = "ROLLBACK TO undo"
		}
		if err := aside(keep); err != nil {
			return err
		}
	}
	return aside("ROLLBACK")
}

func (a *Reply) send(ctx context.Context, c *pgconn.PgConn, w Way, sql string) error {
	if sql[0] == '>' {
		return a.messages(ctx, c, sql)
	}
	up := strings.ToUpper(sql)
	var rows strings.Builder
	var err error
	switch {
	case strings.HasPrefix(up, "COPY") && strings.Contains(up, "STDOUT"):
		_, err = c.CopyTo(ctx, &rows, sql)
	case strings.HasPrefix(up, "COPY") && strings.Contains(up, "FROM STDIN"):
		_, err = c.CopyFrom(ctx, strings.NewReader(""), sql)
	case w == Cursor && query(sql):
		return a.cursor(ctx, c, sql)
	case w == Simple || w == Cursor:
		var results []*pgconn.Result
		results, err = c.Exec(ctx, sql).ReadAll()
		for _, r := range results {
			show(&rows, r)
		}
	default:
		format := []int16{0}
		if w == ExtendedBinary {
			format[0] = 1
		}
		r := c.ExecParams(ctx, sql, nil, nil, nil, format).Read()
		err = r.Err
		show(&rows, r)
	}
	a.Rows += rows.String()
	return a.refusal(err)
}

// refusal notes what sallyport says of itself; an error of the server's is an
// answer like others.
func (a *Reply) refusal(err error) error {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return err
	}
	a.refused(pe.Message, pe.Detail)
	return nil
}

func (a *Reply) refused(message, detail string) {
	if strings.HasPrefix(message, "sallyport: ") {
		a.Refused = message + " " + detail
	}
}

// cursor reads a query's rows one, and then all others, by a cursor.
func (a *Reply) cursor(ctx context.Context, c *pgconn.PgConn, sql string) error {
	begin, end := "", "CLOSE attack"
	if c.TxStatus() == 'I' {
		begin, end = "BEGIN", "ROLLBACK"
	}
	for _, s := range []string{begin, "DECLARE attack CURSOR FOR " + sql, "FETCH 1 FROM attack", "MOVE 0 IN attack", "FETCH ALL FROM attack", end} {
		if s == "" || c.TxStatus() == 'E' && s != "ROLLBACK" {
			continue
		}
		if err := a.send(ctx, c, Simple, s); err != nil {
			return err
		}
	}
	return nil
}

// pipeline sends everything before it reads anything.
func (a *Reply) pipeline(ctx context.Context, c *pgconn.PgConn, statements []string) error {
	f := c.Frontend()
	ready := 0
	for _, s := range statements {
		if s[0] == '>' {
			n, err := say(f, s)
			if err != nil {
				return err
			}
			ready += n
			continue
		}
		f.SendParse(&pgproto3.Parse{Query: s})
		f.SendBind(&pgproto3.Bind{})
		f.SendDescribe(&pgproto3.Describe{ObjectType: 'P'})
		if query(s) {
			f.SendExecute(&pgproto3.Execute{MaxRows: 1})
		}
		f.SendExecute(&pgproto3.Execute{})
		f.SendSync(&pgproto3.Sync{})
		ready++
	}
	return a.hear(ctx, c, ready)
}

func (a *Reply) messages(ctx context.Context, c *pgconn.PgConn, text string) error {
	n, err := say(c.Frontend(), text)
	if err != nil {
		return err
	}
	return a.hear(ctx, c, n)
}

// hear flushes what was said and reads up to the n-th ReadyForQuery, or to the
// session's end.
func (a *Reply) hear(ctx context.Context, c *pgconn.PgConn, n int) error {
	f := c.Frontend()
	if d, ok := ctx.Deadline(); ok {
		if err := c.Conn().SetDeadline(d); err != nil {
			return err
		}
		defer c.Conn().SetDeadline(time.Time{})
	}
	if err := f.Flush(); err != nil {
		a.Ended = true
		return nil
	}
	var rows strings.Builder
	defer func() { a.Rows += rows.String() }()
	for n > 0 {
		m, err := f.Receive()
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return fmt.Errorf("%d answers are missing: %w", n, err)
		case err != nil:
			a.Ended = true
			return nil
		}
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			n--
		case *pgproto3.ErrorResponse:
			a.refused(m.Message, m.Detail)
		case *pgproto3.CopyInResponse:
			f.Send(&pgproto3.CopyFail{})
			if err := f.Flush(); err != nil {
				return err
			}
		case *pgproto3.DataRow:
			showRow(&rows, m.Values)
		case *pgproto3.FunctionCallResponse:
			showRow(&rows, [][]byte{m.Result})
		case *pgproto3.CommandComplete:
			fmt.Fprintln(&rows, string(m.CommandTag))
		}
	}
	return nil
}

func show(w *strings.Builder, r *pgconn.Result) {
	for _, row := range r.Rows {
		showRow(w, row)
	}
	fmt.Fprintln(w, r.CommandTag.String())
}

func showRow(w *strings.Builder, row [][]byte) {
	for i, v := range row {
		if i > 0 {
			w.WriteByte('\t')
		}
		if v == nil {
			w.WriteString("<null>")
		}
		w.Write(v)
	}
	w.WriteByte('\n')
}

// Holds returns what is wrong with what an attempt was answered through a
// passage.
func (a *Attack) Holds(w Way, got *Reply) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if l := Planted(got.Received); l != "" {
		fail("a planted value: %s", l)
	}
	if got.Failed != "" {
		fail("the session failed: %s", got.Failed)
	}
	if a.shows(got) {
		fail("it shows %q%q", a.Shows, a.Says)
	}
	rows, several := "\n"+got.Rows, false
	for _, s := range a.Statements {
		several = several || w.form(s) == ""
	}
	switch {
	case a.Want == "ended":
		if !got.Ended {
			fail("the session goes on")
		}
		return errors.Join(errs...)
	case got.Ended:
		fail("the session was ended")
	}
	switch {
	case a.Want == "refused" && got.Refused == "" && !several:
		fail("not refused:\n%s", got.Rows)
	case w != Simple || a.Want == "" || a.Want == "refused":
	case got.Refused != "":
		fail("refused: %s", got.Refused)
	case a.Want == "none" && !strings.Contains(rows, "\nSELECT 0\n"):
		fail("rows came back, or none:\n%s\n%q", got.Rows, got.Received)
	case a.Want != "ok" && a.Want != "none" && !strings.Contains(rows, "\n"+strings.ReplaceAll(a.Want, ",", "\n")+"\n"):
		fail("want %s:\n%s", a.Want, got.Rows)
	}
	return errors.Join(errs...)
}

// shows reports what an attempt is to show.
func (a *Attack) shows(got *Reply) bool {
	return a.Shows != "" && strings.Contains("\n"+got.Rows, "\n"+a.Shows+"\n") || a.Says != "" && strings.Contains(string(got.Received), a.Says)
}

// Same returns what differs from a reply without a passage, relations made
// meanwhile apart: their numbers are from next on.
func (a *Reply) Same(direct *Reply, next uint32) error {
	if a.Failed != "" || direct.Failed != "" || a.Refused != "" {
		return fmt.Errorf("through: %s %s, direct: %s", a.Failed, a.Refused, direct.Failed)
	}
	if x, y := Timeless(a.Received, next), Timeless(direct.Received, next); !bytes.Equal(x, y) {
		return fmt.Errorf("through:\n%q\ndirect:\n%q", x, y)
	}
	return nil
}

// Works returns what is missing for an attempt to be one, of what it was
// answered without a passage; twin is the answer where the protected values
// are others. Its Effect is looked for by the caller.
func (a *Attack) Works(got, twin *Reply) error {
	switch {
	case got.Failed != "":
		return fmt.Errorf("the session failed: %s", got.Failed)
	case a.Leaks() && Planted(got.Received, a.Statements...) == "":
		return fmt.Errorf("no planted value came back:\n%s%q", got.Rows, got.Received[:min(len(got.Received), 400)])
	case a.Tells && string(got.Received) == string(twin.Received):
		return fmt.Errorf("it tells nothing:\n%s%q", got.Rows, got.Received[:min(len(got.Received), 400)])
	case a.Shows+a.Says != "" && !a.shows(got):
		return fmt.Errorf("it does not show %q%q:\n%s%q", a.Shows, a.Says, got.Rows, got.Received[:min(len(got.Received), 400)])
	}
	return nil
}

// Timeless clears the numbers of relations from next on in each RowDescription:
// a relation that a conversation makes has another one each time.
func Timeless(b []byte, next uint32) []byte {
	b = bytes.Clone(b)
	for m := b; len(m) >= 5; {
		n := int(binary.BigEndian.Uint32(m[1:])) + 1
		if n < 5 || n > len(m) {
			break
		}
		if m[0] == 'T' {
			for f := m[7:n]; len(f) > 18; {
				f = f[bytes.IndexByte(f, 0)+1:]
				if binary.BigEndian.Uint32(f) >= next {
					binary.BigEndian.PutUint32(f, 0)
				}
				f = f[18:]
			}
		}
		m = m[n:]
	}
	return b
}
