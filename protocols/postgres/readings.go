package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// readings are the settings by which the texts of values are understood: those that
// the server reports, and what the client set besides when it connected. Where
// statements need approvals none of them is changed later.
type readings struct {
	mu sync.Mutex
	of map[string]string
}

func (r *readings) note(name, value string) {
	if !query.Reads(name) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]string{}
	}
	r.of[strings.ToLower(name)] = value
}

// unnoted says what a session may have set before anything asked for an approval.
type unnoted struct {
	set    bool // settings that nobody noted
	unread bool // anything: it was relayed
}

func (e *unnoted) note(sc *policy.Scope) {
	e.set = e.set || !sc.Approves
	e.unread = e.unread || sc.Opaque
}

// For each question such a session is asked what it has set, whatever that is for, and
// whose rights it has. Settings of extensions that are not there the server does not
// list: they can be set only where nothing is looked at.
const (
	sessionSettings = "SELECT s.name, s.setting, s.source FROM pg_catalog.pg_settings s"
	sessionRights   = "SELECT pg_catalog.current_setting('role'), CURRENT_USER, SESSION_USER"
)

var (
	errSettings = errors.New("what the session has set can't be read just now: connect again")
	errSnapshot = errors.New("what the session has set can't be read within this transaction, which would then see the rows as of now: " +
		"roll back and ask outside of one, or connect again")
)

// looking are commands that look, as of some moment, whatever they are about
// (PlannedStmtRequiresSnapshot in pquery.c; of a cursor, what opened it has).
var looking = []string{"select", "insert", "update", "delete", "truncate", "copy_from", "copy_to", "declare", "execute", "fetch", "move"}

// looksAnyway returns an error where a question within the client's transaction would
// change what that sees. One that is not READ COMMITTED sees the rows as of its first
// query; and none may be made such a one behind it, so that the statement is to look too.
func (c *conn) looksAnyway() error {
	if done := c.wording.st.an.Commands; len(done) == 0 || !slices.Contains(looking, done[0]) {
		return errSnapshot
	}
	level, err := c.readInside(c.ctx, "SHOW transaction_isolation")
	switch {
	case err != nil:
		return errors.Join(errSettings, err)
	case len(level) != 1 || len(level[0]) != 1 || len(level[0][0]) != 1 || string(level[0][0][0]) != "read committed":
		return errSnapshot
	}
	return nil
}

// settingsNow returns what the session has set, as name=value, in order.
func (c *conn) settingsNow() ([]string, error) {
	if err := c.barrier(); err != nil {
		return nil, err
	}
	c.queue.mu.Lock()
	failed, idle := c.queue.failed || c.queue.skipping || c.queue.over, c.queue.idle && !c.batch
	c.queue.mu.Unlock()
	if failed || !c.batch && c.carried() {
		return nil, errSettings
	}
	if !idle {
		if err := c.looksAnyway(); err != nil {
			return nil, err
		}
	}
	rows, err := c.readInside(c.ctx, sessionSettings, sessionRights)
	if err != nil {
		return nil, errors.Join(errSettings, err)
	}
	if len(rows[1]) != 1 || len(rows[1][0]) != 3 {
		return nil, errSettings
	}
	out := []string{fmt.Sprintf("rights=%s", rows[1][0])}
	for _, r := range rows[0] {
		if len(r) != 3 {
			return nil, errSettings
		}
		name := string(r[0])
		if source := string(r[2]); (source == "session" || source == "client") && !strings.HasPrefix(name, "sallyport.") && name != "application_name" {
			out = append(out, name+"="+string(r[1]))
		}
	}
	slices.Sort(out)
	return out, nil
}

// list returns them as name=value, in order.
func (r *readings) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]string, 0, len(r.of))
	for name, value := range r.of {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}
