package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// The server shows pg_hba.conf as it is written now. What is in force is what it
// read when it was last told to, unless it could not read that.

// errWritten: the file is younger than that.
var errWritten = errors.New("the file was written after the server last read its configuration: other rules than these are in force")

// loaded says whether the access rules as written are those in force, as far as
// times tell: pg_stat_file has whole seconds.
func (l *findings) loaded(ctx context.Context, c *pgconn.PgConn, rules []accessRule) {
	const check, remedy = "pg_hba.conf loaded", "as a superuser: SELECT pg_reload_conf(), and look into the server's log"
	for _, r := range rules {
		if r.wrong != "" {
			l.check(check, "", fmt.Errorf("line %s is an error (%s): the server refuses the file as a whole, and goes on with the rules that it had", r.line, r.wrong), remedy)
			return
		}
	}
	for _, written := range []string{
		"public.sallyport_hba_written()",
		"(pg_stat_file(current_setting('hba_file'))).modification",
	} {
		res := c.ExecParams(ctx, "SELECT "+written+" > pg_conf_load_time(), "+written+"::text, pg_conf_load_time()::text", nil, nil, nil, nil).Read()
		if res.Err != nil || len(res.Rows) != 1 || len(res.Rows[0][0]) == 0 {
			continue
		}
		var err error
		if string(res.Rows[0][0]) != "f" {
			err = errWritten
		}
		l.check(check, fmt.Sprintf("written %s, read %s", res.Rows[0][1], res.Rows[0][2]), err, remedy)
		return
	}
	l.note(check, "whether the server has read the file as it is written now is not known: this role can't see when it was written",
		"make public.sallyport_hba_written() (docs/sole-conduit.md), or reload to be sure: SELECT pg_reload_conf()")
}
