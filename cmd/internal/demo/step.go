package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

// demo is the story that is told on a stand.
type demo struct {
	*stand.Stand
	w     *screen
	steps int
}

// result is what a command showed: both its streams, as a terminal shows them.
type result struct {
	out  string
	code int
}

// check is one thing that a result must show.
type check struct {
	says string
	ok   func(result) bool
}

// step is a part of the story.
type step struct {
	title   string
	why     string
	command string        // for a shell, as a person would type it
	settle  time.Duration // how long what the command reads may take to arrive
	checks  []check
}

// step tells one step; it fails unless everything is shown.
func (d *demo) step(ctx context.Context, s step) (result, error) {
	if s.title != "" {
		d.steps++
		d.w.title(d.steps, s.title)
	}
	if s.why != "" {
		d.w.say("%s", s.why)
	}
	d.w.command(s.command)
	var r result
	var missing []string
	for end := time.Now().Add(s.settle); ; {
		var err error
		if r, err = d.shell(ctx, s.command); err != nil {
			return r, err
		}
		missing = nil
		for _, c := range s.checks {
			if !c.ok(r) {
				missing = append(missing, c.says)
			}
		}
		if len(missing) == 0 || time.Now().After(end) {
			break
		}
		select {
		case <-ctx.Done():
			return r, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	d.w.output(r.out)
	if len(missing) > 0 {
		for _, m := range missing {
			d.w.wrong(m)
		}
		log, _ := d.Log()
		return r, fmt.Errorf("step %d did not show: %s (exit code %d)\nsallyport's log:\n%s", d.steps, strings.Join(missing, "; "), r.code, log)
	}
	var says []string
	for _, c := range s.checks {
		says = append(says, c.says)
	}
	d.w.right(strings.Join(says, "; "))
	return r, nil
}

// shell runs a command as it is shown, after the functions that it uses.
func (d *demo) shell(ctx context.Context, command string) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := d.Command(ctx, "sh", "-c", d.prelude()+command)
	cmd.Env = append(cmd.Env, "DEMO="+d.Dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := stand.Run(cmd)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result{}, err
	}
	if ctx.Err() != nil {
		return result{}, fmt.Errorf("%s: %w\n%s", command, ctx.Err(), out.String())
	}
	return result{out.String(), cmd.ProcessState.ExitCode()}, nil
}

// prelude defines the words that make commands short; the story shows it.
func (d *demo) prelude() string {
	a := d.Agents["agent-a"]
	return fmt.Sprintf(`sallyport() { command sallyport -c $DEMO/sallyport.yaml "$@"; }
outside() { setpriv --reuid %d --regid %d --clear-groups "$@"; }
agent() { sallyport exec --token-file $DEMO/tokens/agent-a.jwt --user %s -- "$@"; }
`, a.User.UID, a.User.GID, a.User)
}

// Checks.

func has(says string, patterns ...string) check {
	return check{says, func(r result) bool {
		for _, p := range patterns {
			if !regexp.MustCompile(p).MatchString(r.out) {
				return false
			}
		}
		return true
	}}
}

func masked() check {
	return check{"no protected value comes back", func(r result) bool { return stand.Canary([]byte(r.out)) == "" }}
}

func exits(code int) check {
	return check{fmt.Sprintf("exit code %d", code), func(r result) bool { return r.code == code }}
}
