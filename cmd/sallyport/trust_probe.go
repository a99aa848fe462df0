package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/redirect"
)

// What a process makes of the authority.
const (
	trusts     = "trusts"
	refuses    = "refuses"
	pins       = "pins"
	clientCert = "client certificate"
)

// probed is what is known of a process.
type probed struct {
	PID      int      `json:"pid"`
	Name     string   `json:"name"`
	UID      uint32   `json:"uid"`
	Cgroup   string   `json:"cgroup"`
	Runtime  string   `json:"runtime"` // libpq, java, node, python, openssl, ...; "" where none was seen
	Verdict  string   `json:"verdict"` // trusts, refuses, pins, client certificate or unknown
	Seen     bool     `json:"seen"`    // in recorded handshakes; else it is inferred
	Reasons  []string `json:"reasons"`
	Resource string   `json:"resource,omitempty"` // of the handshake that was seen
}

func trustProbeCmd() *cobra.Command {
	var asJSON bool
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "probe [PID...]",
		Short: "Say what each covered process makes of this host's authority",
		Long: `Looks at each covered process that the guard is there for (or at those that are
named), and says what it makes of certificates of this host's authority:

  trusts              it takes them, or verifies nothing
  refuses             it trusts other authorities only
  pins                it wants one certificate, whoever has signed it
  client certificate  it shows one of its own, which the server would not see
  unknown             nothing tells

"seen" is by handshakes that stand in this host's journal, of the process itself
or of the same program, user and cgroup. "inferred" is by what the process was
started with, the libraries that it has loaded, and the stores in its own root:
a program may do otherwise, by a connection string for example.

Exit code 1 when a process refuses, pins, or has a client certificate.`,
		Example: `  sudo sallyport trust probe
  sudo sallyport trust probe 4711 --json | jq '.[].reasons'`,
		Args: func(_ *cobra.Command, args []string) error {
			for _, a := range args {
				if n, err := strconv.Atoi(a); err != nil || n < 1 {
					return configError(fmt.Errorf("%q is no process id", a))
				}
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			cs, err := readCertificates(cfg)
			if err != nil {
				return err
			}
			ps, err := probable(cfg, args)
			if err != nil {
				return err
			}
			rec, err := readHandshakes(cfg, time.Now().Add(-since), ps)
			if err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "sallyport: the journal can't be read, all is inferred: %s\n", render.Line(err.Error()))
			}
			list := []probed{}
			for i := range ps {
				list = append(list, probe(&ps[i], cs, cfg.Host, rec))
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), list)
			} else {
				err = printProbed(cmd.OutOrStdout(), list)
			}
			if err != nil {
				return err
			}
			n := 0
			for _, p := range list {
				if p.Verdict != trusts && p.Verdict != unknown {
					n++
				}
			}
			if n > 0 {
				return &exitError{code: 1, hint: "docs/tls.md, Trust, tells what each runtime needs", err: fmt.Errorf("%d of %d processes would not get in by TLS", n, len(list))}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	cmd.Flags().DurationVar(&since, "since", 7*24*time.Hour, "how far back handshakes are looked for in the journal")
	return cmd
}

// probable are the processes to look at: those named, else those that the guard
// is there for.
func probable(cfg *config.Config, pids []string) (out []process, err error) {
	h := redirect.Host{}
	all, err := processes(h)
	if err != nil {
		return nil, err
	}
	if len(pids) > 0 {
		for _, s := range pids {
			i := slices.IndexFunc(all, func(p process) bool { return strconv.Itoa(p.pid) == s })
			if i < 0 {
				return nil, fmt.Errorf("there is no process %s", s)
			}
			out = append(out, all[i])
		}
		return out, nil
	}
	root, err := h.CgroupRoot()
	if err != nil {
		return nil, err
	}
	c, err := coverOf(cfg, root)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if c.covers(&all[i]) && c.agent(&all[i]) {
			out = append(out, all[i])
		}
	}
	return out, nil
}

// probeTime bounds the look at one process: its file systems may be its own.
const probeTime = 5 * time.Second

func probe(p *process, cs certificates, host string, rec *handshakes) probed {
	out := probed{PID: p.pid, Name: p.name, UID: p.ids[0], Cgroup: p.cgroup, Verdict: unknown, Reasons: []string{}}
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	type look struct {
		v   *viewed
		j   judgement
		err error
	}
	done := make(chan look, 1) // what hangs is left behind
	go func() {
		v, err := view(p.pid)
		if err != nil {
			done <- look{err: err}
			return
		}
		defer v.close()
		done <- look{v, v.judge(cs, host), nil}
	}()
	var l look
	select {
	case l = <-done:
	case <-ctx.Done():
		l.err = errors.New("its files do not answer")
	}
	if l.err != nil {
		out.Reasons = append(out.Reasons, l.err.Error())
	} else {
		out.Runtime, out.Verdict, out.Reasons = l.v.runtime, l.j.verdict, append(out.Reasons, l.j.why)
	}
	var start uint64
	var exe string
	if l.v != nil {
		start, exe = l.v.start, l.v.exe
	}
	if h := rec.of(p, start, exe); h != nil {
		out.Seen, out.Resource = true, h.resource
		inferred := out.Verdict
		out.Verdict, out.Reasons = h.verdict(inferred), append([]string{h.String()}, out.Reasons...)
	}
	return out
}

func printProbed(w io.Writer, list []probed) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PID\tNAME\tUSER\tRUNTIME\tVERDICT\tBY\tWHY")
	for _, p := range list {
		by := "inferred"
		if p.Seen {
			by = "seen"
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%s\t%s\t%s\n", p.PID, dash(p.Name), p.UID, dash(p.Runtime), p.Verdict, by, render.Line(strings.Join(p.Reasons, "; ")))
	}
	return t.Flush()
}
