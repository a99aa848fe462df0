package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/recorder"
)

// recorded KEY=VALUE...: the recorder comes to hold an event of this script
// that is so; with count=N so many, no more. With ! it holds none, once all
// that was published is stored. Keys are kind, verdict, rule, field, agent,
// for, status, code, text, reason, message and proof; the last four are
// regular expressions.
func (s *story) recorded(ts *testscript.TestScript, neg bool, args []string) {
	s.expect(ts, neg, args, func(ctx context.Context) ([]recorder.Facts, error) {
		store, err := recorder.OpenReader(s.Store)
		if err != nil {
			return nil, err
		}
		defer store.Close()
		var all []recorder.Facts
		sessions, err := store.Sessions(ctx, recorder.Filter{Since: s.since})
		if err != nil {
			return nil, err
		}
		for _, x := range sessions {
			d, err := store.Show(ctx, x)
			if err != nil {
				return nil, err
			}
			for _, r := range d.Requests {
				r.Who = d.Identity
				r.Text = r.Exact
				all = append(all, r.Facts)
			}
			for _, e := range d.Events {
				e.Who = d.Identity
				all = append(all, e)
			}
		}
		return all, nil
	})
}

// published KEY=VALUE...: a SIEM subscriber comes to see an event that is so.
func (s *story) published(ts *testscript.TestScript, neg bool, args []string) {
	patience := 300 * time.Millisecond // to read all that there is, from the beginning
	if neg {
		patience = 2 * time.Second
	}
	s.expect(ts, neg, args, func(ctx context.Context) ([]recorder.Facts, error) {
		nc, err := jetstream.Connect(s.NATS(), s.Seed(jetstream.RoleSIEM))
		if err != nil {
			return nil, err
		}
		defer nc.Close()
		var all []recorder.Facts
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		patience = min(2*patience, 10*time.Second) // the next time
		err = jetstream.Tail(ctx, nc, jetstream.TailOptions{FromStart: true}, nil, func(m *nats.Msg) error {
			_, rs, err := jetstream.Parse(m.Subject, m.Header, m.Data)
			if err != nil {
				return err
			}
			for _, r := range rs {
				f, err := recorder.Decode(r.Kind, r.Payload)
				if err != nil {
					return err
				}
				f.Kind = r.Kind.String()
				if !f.Time.Before(s.since.Truncate(time.Millisecond)) {
					all = append(all, f)
				}
			}
			return nil
		})
		return all, err
	})
}

// expect polls until the wanted events are there; for "none" it reads once,
// after what was published before has had its time.
func (s *story) expect(ts *testscript.TestScript, neg bool, args []string, read func(context.Context) ([]recorder.Facts, error)) {
	count := -1
	var conds []func(*recorder.Facts) bool
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		if k == "count" {
			n, err := strconv.Atoi(v)
			ts.Check(err)
			count = n
			continue
		}
		c, err := condition(k, v)
		ts.Check(err)
		conds = append(conds, c)
	}
	var seen []recorder.Facts
	look := func() (int, error) {
		ctx, cancel := limit()
		defer cancel()
		var err error
		seen, err = read(ctx)
		n := 0
		for i := range seen {
			all := true
			for _, c := range conds {
				all = all && c(&seen[i])
			}
			if all {
				n++
			}
		}
		return n, err
	}
	if neg {
		time.Sleep(time.Second)
		if n, err := look(); err != nil || n > 0 {
			ts.Fatalf("%d such events (%v)", n, err)
		}
		return
	}
	var n int
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if n, err = look(); err == nil && (n > 0 && count < 0 || n == count) {
			return
		}
	}
	var b strings.Builder
	for _, f := range seen {
		fmt.Fprintf(&b, "  %s %s rules=%v masked=%v status=%s agent=%s text=%q message=%q reason=%q\n",
			f.Kind, f.Verdict, f.Rules, f.Masked, f.Status, f.Who.Actor, f.Text, f.Message, f.Reason)
	}
	ts.Fatalf("%d such events (%v), of:\n%s", n, err, b.String())
}

func condition(key, value string) (func(*recorder.Facts) bool, error) {
	is := func(get func(*recorder.Facts) string) (func(*recorder.Facts) bool, error) {
		return func(f *recorder.Facts) bool { return get(f) == value }, nil
	}
	like := func(get func(*recorder.Facts) string) (func(*recorder.Facts) bool, error) {
		re, err := regexp.Compile(value)
		return func(f *recorder.Facts) bool { return re.MatchString(get(f)) }, err
	}
	switch key {
	case "kind":
		return is(func(f *recorder.Facts) string { return f.Kind })
	case "verdict":
		return is(func(f *recorder.Facts) string { return f.Verdict })
	case "agent":
		return is(func(f *recorder.Facts) string { return f.Who.Actor })
	case "for":
		return is(func(f *recorder.Facts) string { return f.Who.Principal })
	case "status":
		return is(func(f *recorder.Facts) string { return f.Status })
	case "code":
		return is(func(f *recorder.Facts) string { return f.Code })
	case "rule":
		return func(f *recorder.Facts) bool { return slices.Contains(f.Rules, value) }, nil
	case "field":
		return func(f *recorder.Facts) bool { return slices.Contains(f.Masked, value) }, nil
	case "text":
		return like(func(f *recorder.Facts) string { return f.Text })
	case "reason":
		return like(func(f *recorder.Facts) string { return f.Reason })
	case "message":
		return like(func(f *recorder.Facts) string { return f.Message })
	case "proof":
		return like(func(f *recorder.Facts) string { return f.Who.Proof })
	}
	return nil, fmt.Errorf("no such property: %q", key)
}

// tamper STORE STATEMENT: an insider edits the file of a recorder's store.
func (s *story) tamper(ts *testscript.TestScript, neg bool, args []string) {
	u := url.URL{Scheme: "file", Path: filepath.Join(ts.MkAbs(args[0]), "records.db")}
	db, err := sql.Open("sqlite", u.String())
	ts.Check(err)
	defer db.Close()
	r, err := db.Exec(strings.Join(args[1:], " "))
	ts.Check(err)
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		ts.Check(errors.Join(errors.New("nothing was changed"), err))
	}
}
