// Package serverlog reads what PostgreSQL's own log tells of its sessions: the
// formats csvlog (13 and later) and jsonlog (15 and later), with pgaudit's lines
// where that is there. PostgreSQL 15, section 20.8.
package serverlog

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Session is what the log tells of one session of a client.
type Session struct {
	ID          string         `json:"log_session"` // the log's own, %c
	PID         int            `json:"pid"`         // of its process at the server
	User        string         `json:"user"`
	Database    string         `json:"database"`
	From        netip.AddrPort `json:"-"`                // zero for a unix socket, and where the log has names
	Peer        string         `json:"from"`             // as the log has it
	Application []string       `json:"application"`      // names that it went by, oldest first
	Started     time.Time      `json:"started"`          // to the second
	First       time.Time      `json:"first"`            // line in the log
	Last        time.Time      `json:"last"`             // line in the log
	Statements  int            `json:"statements"`       // that the log has
	Relations   []string       `json:"relations"`        // that pgaudit names
	Commands    []string       `json:"commands"`         // first words of statements, and what pgaudit calls them
	Refused     bool           `json:"refused,omitzero"` // the server did not let it in

	let bool // it did
}

// maxNames is what is kept of names in one session.
const maxNames = 100

// Reader gathers sessions from log files, one after another.
type Reader struct {
	sessions map[string]*Session
	order    []*Session
}

// Sessions returns what was gathered, in the order of their first lines.
func (r *Reader) Sessions() []*Session { return r.order }

// entry is a line of a log.
type entry struct {
	time, started   time.Time
	user, database  string
	pid             int
	peer            string
	session         string
	severity, state string
	message         string
	application     string
	backend         string
}

// Read takes in a log file. Its form is told by its first byte. An error names
// the line.
func (r *Reader) Read(f io.Reader) error {
	b := bufio.NewReaderSize(f, 64<<10)
	first, err := b.Peek(1)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	if first[0] == '{' {
		return r.json(b)
	}
	return r.csv(b)
}

// Columns of csvlog; those behind backendType vary by version.
const (
	logTime = iota
	userName
	databaseName
	processID
	connectionFrom
	sessionID
	sessionLine
	commandTag
	sessionStart
	virtualXID
	xid
	severity
	stateCode
	message
	detail
	hint
	internalQuery
	internalPos
	context
	query
	queryPos
	location
	applicationName
	backendType
)

func (r *Reader) csv(f io.Reader) error {
	c := csv.NewReader(f)
	c.FieldsPerRecord, c.ReuseRecord = -1, true
	for {
		l, err := c.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("not a csvlog: %w", err)
		}
		at, _ := c.FieldPos(0)
		if len(l) <= backendType {
			return fmt.Errorf("line %d: not a csvlog of PostgreSQL 13 or later: it has %d fields", at, len(l))
		}
		e := entry{
			user: l[userName], database: l[databaseName], peer: l[connectionFrom], session: l[sessionID],
			severity: l[severity], state: l[stateCode], message: l[message], application: l[applicationName], backend: l[backendType],
		}
		if err := e.parse(l[logTime], l[sessionStart], l[processID]); err != nil {
			return fmt.Errorf("line %d: %w", at, err)
		}
		r.add(&e)
	}
}

func (r *Reader) json(f io.Reader) error {
	s := bufio.NewScanner(f)
	s.Buffer(nil, 64<<20)
	for n := 1; s.Scan(); n++ {
		if len(bytes.TrimSpace(s.Bytes())) == 0 {
			continue
		}
		var l struct {
			Timestamp, User, Dbname string
			PID                     int
			RemoteHost              string `json:"remote_host"`
			RemotePort              int    `json:"remote_port"`
			SessionID               string `json:"session_id"`
			SessionStart            string `json:"session_start"`
			ErrorSeverity           string `json:"error_severity"`
			StateCode               string `json:"state_code"`
			Message                 string
			ApplicationName         string `json:"application_name"`
			BackendType             string `json:"backend_type"`
		}
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return fmt.Errorf("line %d: not a jsonlog: %w", n, err)
		}
		e := entry{
			user: l.User, database: l.Dbname, peer: l.RemoteHost, session: l.SessionID, severity: l.ErrorSeverity, state: l.StateCode,
			message: l.Message, application: l.ApplicationName, backend: l.BackendType,
		}
		if l.RemotePort != 0 {
			e.peer = net.JoinHostPort(strings.Trim(l.RemoteHost, "[]"), strconv.Itoa(l.RemotePort))
		}
		if err := e.parse(l.Timestamp, l.SessionStart, strconv.Itoa(l.PID)); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		r.add(&e)
	}
	return s.Err()
}

func (e *entry) parse(at, started, pid string) (err error) {
	if e.time, err = stamp(at); err != nil {
		return err
	}
	if started != "" {
		if e.started, err = stamp(started); err != nil {
			return err
		}
	}
	if e.pid, err = strconv.Atoi(pid); err != nil {
		return fmt.Errorf("process id %q", pid)
	}
	return nil
}

// stamp reads a time as log_timezone writes it: its zone must be one whose offset
// is known.
func stamp(s string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02 15:04:05.999 MST", "2006-01-02 15:04:05.999 -07"} {
		t, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		if name, offset := t.Zone(); offset == 0 && name != "UTC" && name != "GMT" && name != "" {
			break
		}
		return t.UTC(), nil
	}
	return time.Time{}, fmt.Errorf("time %q: set log_timezone to UTC, so that its zone is no matter of opinion", s)
}

func (r *Reader) add(e *entry) {
	// Before 14 a session that is not let in yet may have another type's name.
	if e.session == "" || e.peer == "" || e.backend != "client backend" && e.backend != "not initialized" && e.backend != "walsender" {
		return
	}
	s := r.sessions[e.session]
	if s == nil {
		s = &Session{ID: e.session, PID: e.pid, Peer: e.peer, Started: e.started, First: e.time}
		s.From, _ = netip.ParseAddrPort(bracketed(e.peer))
		if r.sessions == nil {
			r.sessions = map[string]*Session{}
		}
		r.sessions[e.session] = s
		r.order = append(r.order, s)
	}
	s.Last = e.time
	if e.user != "" {
		s.User, s.Database = e.user, e.database
	}
	keep(&s.Application, e.application)
	r.message(s, e)
}

// message notes what a line's words tell. They are those of an English server;
// lc_messages is to be C or English for a log that programs read.
func (r *Reader) message(s *Session, e *entry) {
	m := e.message
	switch {
	case strings.HasPrefix(m, "connection authorized: "):
		s.let, s.Refused = true, false
		if _, name, ok := strings.Cut(m, " application_name="); ok {
			name, _, _ = strings.Cut(name, " SSL enabled (")
			name, _, _ = strings.Cut(name, " GSS (")
			keep(&s.Application, name)
		}
	case e.severity == "FATAL" && s.Statements == 0 && !s.let && (strings.HasPrefix(e.state, "28") || strings.HasPrefix(e.state, "3D")):
		s.Refused = true
	case strings.HasPrefix(m, "AUDIT: "):
		s.Statements++
		audit(s, strings.TrimPrefix(m, "AUDIT: "))
	default:
		if text, ok := statement(m); ok {
			s.Statements++
			keep(&s.Commands, command(text))
		}
	}
}

// statement returns the text in a message that log_statement or
// log_min_duration_statement wrote.
func statement(m string) (string, bool) {
	if rest, ok := strings.CutPrefix(m, "duration: "); ok {
		if _, m, ok = strings.Cut(rest, " ms  "); !ok {
			return "", false
		}
	}
	if text, ok := strings.CutPrefix(m, "statement: "); ok {
		return text, true
	}
	if rest, ok := strings.CutPrefix(m, "execute "); ok {
		if _, text, ok := strings.Cut(rest, ": "); ok {
			return text, true
		}
	}
	return "", false
}

// command is a statement's first word.
func command(text string) string {
	word := strings.TrimLeft(text, " \t\r\n(;")
	n := strings.IndexFunc(word, func(c rune) bool { return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') })
	if n >= 0 {
		word = word[:n]
	}
	return strings.ToUpper(word[:min(len(word), 32)])
}

// audit reads pgaudit's own columns: type, statement, substatement, class,
// command, object type, object name, statement's text, parameters.
func audit(s *Session, line string) {
	f, err := csv.NewReader(strings.NewReader(line)).Read()
	if err != nil || len(f) < 7 {
		return
	}
	keep(&s.Commands, f[4])
	keep(&s.Relations, f[6])
}

// keep appends a name that is not among the others yet.
func keep(names *[]string, name string) {
	if name == "" || len(*names) >= maxNames {
		return
	}
	for _, n := range *names {
		if n == name {
			return
		}
	}
	*names = append(*names, name)
}

// bracketed makes host:port of what csvlog writes for IPv6, without brackets.
func bracketed(peer string) string {
	i := strings.LastIndexByte(peer, ':')
	if i < 0 || strings.HasPrefix(peer, "[") || strings.Count(peer, ":") < 2 {
		return peer
	}
	return net.JoinHostPort(peer[:i], peer[i+1:])
}
