package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/reads"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/protocols/postgres/serverlog"
)

func init() { commands = append(commands, correlateCmd) }

// correlation is what correlate prints with --json.
type correlation struct {
	Recorded   []entered          `json:"recorded"`   // in both
	Excepted   []entered          `json:"excepted"`   // in the log alone, as --except says they may be
	Unrecorded []entered          `json:"unrecorded"` // in the log alone
	Unlogged   []recorder.Session `json:"unlogged"`   // in the store alone, while the log goes
}

// entered is a session of the server's log, with the one of the store.
type entered struct {
	*serverlog.Session
	Evidence *recorder.Session `json:"evidence,omitempty"`
	Why      string            `json:"why,omitempty"` // nothing is on the record
}

func correlateCmd() *cobra.Command {
	var o correlate
	var excepts []string
	var store, since string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "correlate LOG...",
		Short: "Find accesses in a database's own log that have no record",
		Long: `Hold PostgreSQL's own log against the recorder's store: each session that the
server logged must be one on the record. What is not went round the passage, or
around its record.

LOG is a csvlog (PostgreSQL 13 or later) or jsonlog (15), with log_timezone = UTC
and log_connections = on. With log_statement or pgaudit the statements are counted
too, and what pgaudit names is listed. No statement's text is printed.

A session is on the record if the name that it logged in with (application_name)
holds the id of a session in the store, at a time at which that one was open, and
if it came from the address and port that the passage had at the server: an id
that somebody saw and uses again proves nothing. Through a unix socket there is no
address: then no other session of the log may have the id.

That the evidence is read goes on a record of its own first, in the folder reads of
the store (--reads); where that fails nothing is read.

Exit codes: 0 all are on the record or excepted, 1 some are not, 2 bad usage.`,
		Example: `  sallyport correlate /var/log/postgresql/*.csv --except user=sallyport_catalog
  sallyport correlate server.json --resource clinic --except from=192.0.2.7 --since 24h --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return configError(errors.New("give the files of the server's log"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, e := range excepts {
				if err := o.except(e); err != nil {
					return configError(err)
				}
			}
			if since != "" {
				var err error
				if o.since, err = parseSince(since, time.Now()); err != nil {
					return configError(err)
				}
			}
			var log serverlog.Reader
			for i, name := range args {
				if len(args) > 1 {
					fmt.Fprintf(cmd.ErrOrStderr(), "reading %s (%d of %d)\n", name, i+1, len(args))
				}
				if err := readLog(&log, name); err != nil {
					return configError(err)
				}
			}
			s, err := recorder.OpenReader(store)
			if err != nil {
				return configError(err)
			}
			defer s.Close()
			if err := reading(cmd.Context(), cmd, o.asked()); err != nil {
				return err
			}
			found, err := o.hold(cmd.Context(), log.Sessions(), s)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), found)
			} else {
				err = found.print(cmd.OutOrStdout())
			}
			if n := len(found.Unrecorded); err == nil && n > 0 {
				return &exitError{code: 1, err: fmt.Errorf("%d sessions of the server's log are not on the record", n), hint: "`sallyport doctor --resource` tells whom the server lets in past the passage"}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&store, "store", defaultStore, "folder of the recorder's store, or its postgres:// URL")
	f.StringVar(&o.resource, "resource", "", "the log is of this resource's server: sessions with others don't count")
	f.StringArrayVar(&excepts, "except", nil, "who may be there without a record: user=NAME or from=ADDRESS[/BITS] (again for more)")
	f.StringVar(&since, "since", "", "only sessions that began since: a duration (24h) or a time (RFC 3339)")
	f.DurationVar(&o.skew, "skew", 2*time.Second, "by how much the clocks of server and passage may differ")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.String(reads.Flag, "", reads.Usage)
	cmd.MarkFlagDirname("store")
	cmd.MarkFlagDirname(reads.Flag)
	return cmd
}

func readLog(r *serverlog.Reader, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := r.Read(f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// correlate holds a log against a store.
type correlate struct {
	resource string
	skew     time.Duration
	since    time.Time
	users    []string
	from     []netip.Prefix
}

// asked says what is read, for the record of who reads the evidence.
func (o *correlate) asked() string {
	what := "all sessions"
	if o.resource != "" {
		what = fmt.Sprintf("sessions with the resource %q", o.resource)
	}
	if !o.since.IsZero() {
		what += " since " + o.since.UTC().Format(time.RFC3339)
	}
	return what
}

// except takes in a word of --except.
func (o *correlate) except(s string) error {
	what, value, _ := strings.Cut(s, "=")
	switch what {
	case "user":
		if value != "" {
			o.users = append(o.users, value)
			return nil
		}
	case "from":
		if a, err := netip.ParseAddr(value); err == nil {
			o.from = append(o.from, netip.PrefixFrom(a, a.BitLen()))
			return nil
		}
		if p, err := netip.ParsePrefix(value); err == nil {
			o.from = append(o.from, p)
			return nil
		}
	}
	return fmt.Errorf("--except %q: give user=NAME or from=ADDRESS[/BITS]", s)
}

func (o *correlate) excepted(l *serverlog.Session) bool {
	for _, u := range o.users {
		if l.User == u {
			return true
		}
	}
	for _, p := range o.from {
		if l.From.IsValid() && p.Contains(l.From.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// hold sorts the log's sessions.
func (o *correlate) hold(ctx context.Context, log []*serverlog.Session, s *recorder.DB) (*correlation, error) {
	c := &correlation{Recorded: []entered{}, Excepted: []entered{}, Unrecorded: []entered{}, Unlogged: []recorder.Session{}}
	of := map[string][]*serverlog.Session{} // by the id that they name
	var first, last time.Time
	for _, l := range log {
		for _, id := range ids(l) {
			of[id] = append(of[id], l)
		}
		if first.IsZero() || l.First.Before(first) {
			first = l.First
		}
		if l.Last.After(last) {
			last = l.Last
		}
	}
	known := map[string][]*recorder.Session{} // of several hosts, if one says that its are another's
	all, err := s.Sessions(ctx, recorder.Filter{Resource: o.resource})
	if err != nil {
		return nil, err
	}
	for i := range all {
		known[all[i].ID] = append(known[all[i].ID], &all[i])
	}
	for _, l := range log {
		if l.User == "" || l.Refused || l.Started.Before(o.since) {
			continue // nobody was let in, or it is not asked for
		}
		x := entered{Session: l}
		if x.Evidence, x.Why, err = o.judge(ctx, l, of, known, s); err != nil {
			return nil, err
		}
		switch {
		case x.Why == "":
			c.Recorded = append(c.Recorded, x)
		case o.excepted(l):
			c.Excepted = append(c.Excepted, x)
		default:
			c.Unrecorded = append(c.Unrecorded, x)
		}
	}
	for i := range all {
		x := &all[i]
		// One that the server did not let in, or that never reached it, ran nothing.
		if len(of[x.ID]) == 0 && x.Statements > x.Refused && x.Opened.After(first) && x.Opened.Before(last) && !x.Opened.Before(o.since) {
			c.Unlogged = append(c.Unlogged, *x)
		}
	}
	return c, nil
}

// ids are those of sessions in the names that one went by.
func ids(l *serverlog.Session) (out []string) {
	for _, name := range l.Application {
		if id, ok := strings.CutPrefix(name, "sallyport:"); ok {
			id, _, _ = strings.Cut(id, " ")
			out = append(out, id)
		}
	}
	return out
}

// judge returns the session of the store that one of the log is, or why there is
// none.
func (o *correlate) judge(ctx context.Context, l *serverlog.Session, of map[string][]*serverlog.Session, known map[string][]*recorder.Session, s *recorder.DB) (*recorder.Session, string, error) {
	named := ids(l)
	if len(named) == 0 {
		return nil, "it names no session of sallyport", nil
	}
	if len(named) > 1 {
		return nil, "it names several sessions", nil
	}
	switch len(known[named[0]]) {
	case 0:
		return nil, "the session that it names is not in the store", nil
	case 1:
	default:
		return nil, "several hosts tell of the session that it names", nil
	}
	x := known[named[0]][0]
	begun := l.Started.Add(-o.skew)
	if begun.Before(x.Opened.Add(-2*o.skew-time.Second)) || x.Closed != nil && begun.After(*x.Closed) {
		return nil, "the session that it names was not open then", nil
	}
	who, err := s.Who(ctx, *x)
	if err != nil {
		return nil, "", err
	}
	at := netip.AddrPortFrom(who.ServerFrom.Addr().Unmap(), who.ServerFrom.Port())
	switch {
	case l.From.IsValid() != who.ServerFrom.IsValid():
		return nil, "the session that it names came another way", nil
	case l.From.IsValid() && l.From != at:
		return nil, fmt.Sprintf("the session that it names came from %s", at), nil
	}
	// Of a unix socket the log has no more than the name.
	for _, other := range of[x.ID] {
		if other != l && other.From == l.From {
			return nil, "others name the same session", nil
		}
	}
	return x, "", nil
}

func (c *correlation) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(c.Unrecorded) > 0 {
		fmt.Fprintln(t, "NOT ON THE RECORD\tSTARTED\tUSER\tDATABASE\tFROM\tSTATEMENTS\tCOMMANDS\tRELATIONS\tWHY")
		for _, l := range c.Unrecorded {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", render.Line(l.ID), l.Started.Local().Format(time.DateTime), dash(l.User), dash(l.Database), dash(l.Peer),
				l.Statements, dash(strings.Join(l.Commands, " ")), dash(strings.Join(l.Relations, " ")), l.Why)
		}
		fmt.Fprintln(t)
	}
	if len(c.Unlogged) > 0 {
		fmt.Fprintln(t, "NOT IN THE LOG\tOPENED\tWORKLOAD\tRESOURCE\tSTATEMENTS")
		for _, x := range c.Unlogged {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\n", render.Line(x.ID), x.Opened.Local().Format(time.DateTime), dash(x.Workload), dash(x.Resource), x.Statements)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d sessions of the log are on the record, %d are excepted, %d are not on the record; %d sessions of the record are not in the log\n",
		len(c.Recorded), len(c.Excepted), len(c.Unrecorded), len(c.Unlogged))
	return err
}
