package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept/redirect"
)

// story is what the words of a script act on.
type story struct {
	*stand.Stand
	nats    *natsServer // nil for the embedded one
	since   time.Time   // the script's beginning
	logged0 int         // bytes of sallyport's log that are older
	running map[string]*running
}

// tell runs the scripts of a folder, one after the other, on one stand.
func tell(t *testing.T, dir string, s *story) {
	testscript.RunT(serial{t}, testscript.Params{
		Dir: dir, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			s.since, s.running = time.Now(), map[string]*running{}
			if log, err := s.Log(); err == nil {
				s.logged0 = len(log)
			}
			root, err := filepath.Abs("../../..")
			if err != nil {
				return err
			}
			e.Vars = append(e.Vars, "ROOT="+root, "DIR="+s.Dir, "CONFIG="+s.Config, "STORE="+s.Store, "NATS="+s.NATS(), "SIEM="+s.Seed("siem"), "SERVERLOG="+filepath.Join(s.Dir, "pg/data/log/server.csv"),
				"METRICS="+s.Cfg.Metrics, fmt.Sprintf("PASSAGE=%d", s.Cfg.Interception.Port), fmt.Sprintf("PORT=%d", s.PG.Addr.Port()))
			err = s.settled()
			e.Setenv("SINCE", time.Now().UTC().Format(time.RFC3339)) // a log that tells seconds has none of the script before after it
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"as": s.words("as"), "outside": s.words("outside"), "sallyport": s.words("sallyport"), "exits": s.exits,
			"same": s.same, "sql": s.sql, "token": s.token, "masked": s.masked, "clean": s.clean,
			"recorded": s.recorded, "published": s.published,
			"daemon": s.daemon, "recorder": s.recorder, "nats": s.natsCmd, "policy": s.policy, "until": s.until, "tamper": s.tamper,
			"begin": s.begin, "tell": s.tell, "ended": s.ended, "id": s.id, "logged": s.logged, "covered": s.covered, "loose": s.loose,
		},
	})
}

// serial keeps scripts from running beside each other: they share a stand.
type serial struct{ *testing.T }

func (serial) Parallel()     {}
func (serial) Verbose() bool { return testing.Verbose() }
func (s serial) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(serial{t}) })
}

// settled undoes what the script before may have done, whatever became of it.
func (s *story) settled() error {
	ctx := context.Background()
	if s.nats != nil && s.nats.server == nil {
		if err := s.nats.start(); err != nil {
			return err
		}
	}
	if err := errors.Join(s.WritePolicy(stand.Policy), s.WriteConfig()); err != nil {
		return err
	}
	for _, name := range []string{"agent-a", "agent-b"} {
		if err := s.Agents[name].Renew(ctx, 0); err != nil {
			return err
		}
	}
	if err := errors.Join(s.StopSallyport(), s.StartSallyport(ctx)); err != nil {
		return err
	}
	_ = s.StopRecorder()
	return s.StartRecorder(ctx)
}

// finish gives a command's output to the script; its end must be as expected.
func finish(ts *testscript.TestScript, neg bool, cmd *exec.Cmd) {
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	err := stand.Run(cmd)
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		ts.Fatalf("%v", err)
	case err == nil && neg:
		ts.Fatalf("it should have failed")
	case err != nil && !neg:
		ts.Fatalf("%v", err)
	}
	ts.Setenv("status", fmt.Sprint(cmd.ProcessState.ExitCode()))
}

func limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 2*time.Minute)
}

// as AGENT [token=FILE] COMMAND...: an agent runs a command inside the guard.
//
// outside AGENT COMMAND...: the same account, outside of the guard.
//
// sallyport ARGS...: the command line, with this host's configuration unless
// the arguments name another.
func (s *story) words(name string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		ctx, cancel := limit()
		defer cancel()
		finish(ts, neg, s.command(ctx, ts, append([]string{name}, args...)))
	}
}

func (s *story) command(ctx context.Context, ts *testscript.TestScript, args []string) *exec.Cmd {
	switch name, args := args[0], args[1:]; name {
	case "as":
		a, args := s.agent(ts, args)
		if file, ok := strings.CutPrefix(args[0], "token="); ok {
			return s.GuardedAs(ctx, a.User, ts.MkAbs(file), args[1:]...)
		}
		return s.Guarded(ctx, a, args...)
	case "outside":
		a, args := s.agent(ts, args)
		cmd, err := s.Direct(ctx, a, args...)
		ts.Check(err)
		return cmd
	case "sallyport":
		cmd := s.Command(ctx, name, args...)
		cmd.Dir = ts.MkAbs(".")
		return cmd
	default:
		ts.Fatalf("unknown word: %s", name)
		return nil
	}
}

func (s *story) agent(ts *testscript.TestScript, args []string) (stand.Agent, []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: AGENT ARGUMENTS...")
	}
	a, ok := s.Agents[args[0]]
	if !ok {
		ts.Fatalf("no agent %q", args[0])
	}
	return a, args[1:]
}

// exits CODE: how the last command ended.
func (s *story) exits(ts *testscript.TestScript, neg bool, args []string) {
	if (ts.Getenv("status") == args[0]) == neg {
		ts.Fatalf("exit code %s", ts.Getenv("status"))
	}
}

// same AGENT COMMAND...: inside and outside of the guard give the same bytes.
func (s *story) same(ts *testscript.TestScript, neg bool, args []string) {
	a, args := s.agent(ts, args)
	ctx, cancel := limit()
	defer cancel()
	direct, err := s.Direct(ctx, a, args...)
	ts.Check(err)
	var want, got bytes.Buffer
	direct.Stdout, direct.Stderr = &want, &want
	guarded := s.Guarded(ctx, a, args...)
	guarded.Stdout, guarded.Stderr = &got, &got
	errWant, errGot := stand.Run(direct), stand.Run(guarded)
	fmt.Fprint(ts.Stdout(), got.String())
	if (want.String() == got.String() && fmt.Sprint(errWant) == fmt.Sprint(errGot)) == neg {
		ts.Fatalf("outside (%v):\n%s\ninside (%v):\n%s", errWant, want.String(), errGot, got.String())
	}
}

// sql STATEMENT: the database's owner changes something, past everything.
func (s *story) sql(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := limit()
	defer cancel()
	ts.Check(s.PG.Exec(ctx, s.PG.Database, strings.Join(args, " ")))
}

// token FILE CLIENT [for=CLIENT] [life=DURATION]: ask the provider for a token.
func (s *story) token(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: token FILE CLIENT [for=CLIENT] [life=DURATION]")
	}
	behalf, life := "", time.Duration(0)
	for _, a := range args[2:] {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "for":
			behalf = v
		case "life":
			d, err := time.ParseDuration(v)
			ts.Check(err)
			life = d
		default:
			ts.Fatalf("unknown argument %q", a)
		}
	}
	ctx, cancel := limit()
	defer cancel()
	b, err := s.OIDC.Token(ctx, args[1], behalf, life)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// masked: nothing protected is in what the last command showed.
func (s *story) masked(ts *testscript.TestScript, neg bool, args []string) {
	out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
	if c := stand.Canary([]byte(out)); (c == "") == neg {
		ts.Fatalf("a protected value, found by %q, in:\n%s", c, out)
	}
}

// clean FILE...: nothing protected is in these files, nor what an agent
// planted in its statements.
func (s *story) clean(ts *testscript.TestScript, neg bool, args []string) {
	for _, f := range args {
		text := ts.ReadFile(f)
		if c := stand.Canary([]byte(text)); c != "" || strings.Contains(text, "planted") {
			ts.Fatalf("%s holds %q, or what was planted", f, c)
		}
	}
}

// id FILE: puts the session's id in a JSON list of sessions into $id.
func (s *story) id(ts *testscript.TestScript, neg bool, args []string) {
	var list []struct{ Session string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &list))
	if len(list) == 0 {
		ts.Fatalf("no session in it")
	}
	ts.Setenv("id", list[0].Session)
}

// logged PATTERN: sallyport comes to log a line like this.
func (s *story) logged(ts *testscript.TestScript, neg bool, args []string) {
	re, err := regexp.Compile(args[0])
	ts.Check(err)
	var log string
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if log, err = s.Log(); err == nil && re.MatchString(log[min(s.logged0, len(log)):]) {
			return
		}
	}
	ts.Fatalf("no %q in (%v):\n%s", args[0], err, log)
}

// covered AGENT COMMAND...: a process of the covered cgroup, without a token.
// loose: one of no cgroup in particular.
func (s *story) covered(ts *testscript.TestScript, neg bool, args []string) {
	s.inCgroup(ts, neg, stand.DemoCgroup, args)
}

func (s *story) loose(ts *testscript.TestScript, neg bool, args []string) {
	s.inCgroup(ts, neg, "/", args)
}

func (s *story) inCgroup(ts *testscript.TestScript, neg bool, cgroup string, args []string) {
	a, args := s.agent(ts, args)
	ctx, cancel := limit()
	defer cancel()
	cmd, err := s.Direct(ctx, a, args...)
	ts.Check(err)
	root, err := redirect.Host{}.CgroupRoot()
	ts.Check(err)
	f, err := os.Open(filepath.Join(root, cgroup))
	ts.Check(err)
	defer f.Close()
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(f.Fd())
	finish(ts, neg, cmd)
}
