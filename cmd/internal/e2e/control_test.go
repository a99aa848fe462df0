package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

func word(ts *testscript.TestScript, args []string, words map[string]func() error) {
	if len(args) != 1 || words[args[0]] == nil {
		ts.Fatalf("unknown word: %v", args)
	}
	ts.Check(words[args[0]]())
}

// daemon kill|stop|start|reload: kill is -9 without warning, start returns when
// the passage is open.
func (s *story) daemon(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := limit()
	defer cancel()
	word(ts, args, map[string]func() error{
		"kill": s.KillDaemon, "stop": s.StopSallyport, "reload": s.Reload,
		"start": func() error { return s.StartSallyport(ctx) },
	})
}

// recorder kill|stop|start.
func (s *story) recorder(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := limit()
	defer cancel()
	word(ts, args, map[string]func() error{
		"kill": s.KillRecorder, "stop": s.StopRecorder,
		"start": func() error { return s.StartRecorder(ctx) },
	})
}

// nats stop|start: the NATS server that is not ours.
func (s *story) natsCmd(ts *testscript.TestScript, neg bool, args []string) {
	if s.nats == nil {
		ts.Fatalf("NATS is embedded in the daemon here")
	}
	word(ts, args, map[string]func() error{"stop": s.nats.stop, "start": s.nats.start})
}

// policy FILE: put a policy in the place of the host's.
func (s *story) policy(ts *testscript.TestScript, neg bool, args []string) {
	b := stand.Policy
	if args[0] != "default" {
		b = []byte(ts.ReadFile(args[0]))
	}
	ts.Check(s.WritePolicy(b))
}

// until PATTERN COMMAND...: run as, outside or sallyport again and again, until
// it shows what is wanted; 15 s at most.
func (s *story) until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 || neg {
		ts.Fatalf("usage: until PATTERN COMMAND...")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var out bytes.Buffer
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		out.Reset()
		ctx, cancel := limit()
		cmd := s.command(ctx, ts, args[1:])
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = stand.Run(cmd)
		cancel()
		if re.Match(out.Bytes()) {
			_, err := ts.Stdout().Write(out.Bytes())
			ts.Check(err)
			return
		}
	}
	ts.Fatalf("no %q in:\n%s", args[0], out.String())
}

// begin NAME COMMAND...: start as, outside or sallyport, and go on.
func (s *story) begin(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: begin NAME COMMAND...")
	}
	ctx, cancel := limit()
	r := &running{done: make(chan error, 1)}
	cmd := s.command(ctx, ts, args[1:])
	cmd.Stdout, cmd.Stderr = &r.out, &r.msg
	in, err := cmd.StdinPipe()
	ts.Check(err)
	r.in = in
	s.running[args[0]] = r
	go func() {
		defer cancel()
		r.done <- stand.Run(cmd)
	}()
}

// running is a command that a script has begun.
type running struct {
	out, msg bytes.Buffer
	in       io.WriteCloser
	done     chan error
}

// tell NAME LINE: the last of what it reads.
func (s *story) tell(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || s.running[args[0]] == nil {
		ts.Fatalf("usage: tell NAME LINE, of a command that was begun")
	}
	in := s.running[args[0]].in
	_, err := fmt.Fprintln(in, args[1])
	ts.Check(errors.Join(err, in.Close()))
}

// ended NAME: wait for it; what it said is then looked at as usual.
func (s *story) ended(ts *testscript.TestScript, neg bool, args []string) {
	r := s.running[args[0]]
	if r == nil {
		ts.Fatalf("%s was not begun", args[0])
	}
	err := <-r.done
	_, oerr := ts.Stdout().Write(r.out.Bytes())
	_, eerr := ts.Stderr().Write(r.msg.Bytes())
	ts.Check(errors.Join(oerr, eerr))
	if (err == nil) == neg {
		ts.Fatalf("it ended: %v", err)
	}
}
