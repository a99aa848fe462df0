package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/discover"
	"sallyport.dev/sallyport/intercept/redirect"
)

func init() { commands = append(commands, doctorCmd) }

// finding is one line of the doctor's. One that is OK and has a remedy all the
// same is worth a look.
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

func doctorCmd() *cobra.Command {
	var asJSON bool
	var o conduitOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check that this host can be guarded, and say what to do where it can't",
		Long: `Checks the configuration, the kernel and its features, the capabilities of the
caller, whether the kernel accepts every program, and the health of a guard that
is up. Then it looks for doors beside the guard: capabilities of covered
processes, cgroups that they could leave, unix sockets that they could reach. It
changes nothing. "note" is what is worth a look and no failure. Exit code 1 when
a check fails. Run it as root.`,
		Example: `  sallyport doctor
  sallyport doctor --json | jq '.[] | select(.ok | not)'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := cmd.Flags().GetString("config")
			if err != nil {
				return err
			}
			var list []finding
			if o.resource == "" {
				list = diagnose(redirect.Host{}, path)
			} else if list, err = o.conduit(cmd); err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), list)
			} else {
				err = printFindings(cmd.OutOrStdout(), list)
			}
			if err != nil {
				return err
			}
			if n := failures(list); n > 0 {
				return fmt.Errorf("%d of %d checks failed", n, len(list))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print a JSON list")
	f.StringVar(&o.resource, "resource", "", "ask this resource's database whom it lets in, and what the order of its rows could tell, instead")
	f.StringVar(&o.database, "database", "postgres", "with --resource: database to log in to")
	f.StringVar(&o.server, "server", "", "with --resource: where the server is reached, HOST:PORT or the folder of its unix socket")
	f.StringArrayVar(&o.passages, "passage", nil, "with --resource: address from which the database sees a passage (default: this host's)")
	cmd.MarkFlagDirname("server")
	return cmd
}

// findings are a doctor's, in order.
type findings []finding

func (l *findings) check(name, ok string, err error, remedy string) {
	f := finding{Check: name, OK: err == nil, Detail: ok}
	if err != nil {
		f.Detail, f.Remedy = err.Error(), remedy
		// Sentinels carry their remedy after the colon.
		if what, how, found := strings.Cut(f.Detail, ": "); found && remedy == "" {
			f.Detail, f.Remedy = what, how
		}
	}
	*l = append(*l, f)
}

// note is what fails no check.
func (l *findings) note(name, detail, remedy string) {
	*l = append(*l, finding{Check: name, OK: true, Detail: detail, Remedy: remedy})
}

// diagnose makes every check. Without a configuration it checks the defaults.
func diagnose(h redirect.Host, path string) []finding {
	var l findings
	cfg, err := config.Load(path)
	l.check("configuration", path, err, "correct the file; docs/operations.md lists its fields")
	if err != nil {
		cfg = &config.Config{}
		cfg.Interception.Port, cfg.Interception.Pins = 15432, redirect.DefaultPins
	}
	l.check("enforcement", "enforce", enforces(cfg), "set enforcement: enforce, once the record shows nothing that must not be refused")
	l.observing(cfg)
	root := l.host(h, &cfg.Interception)
	l.guardHealth(cfg.Interception.Pins)
	l.health(cfg)
	l.tls(cfg, time.Now())
	if root != "" {
		l.workloads(h, cfg, root)
	}
	l.doors(h)
	l.proxies("/proc")
	inv, err := discover.Look()
	detail := ""
	if err == nil {
		detail, err = forwarders(cfg, inv)
	}
	l.check("forwarders", detail, err, "make what they listen at addresses of the resource behind them, and rule on each in interception.forwarders (docs/operations.md, Forwarders)")
	return l
}

func failures(list []finding) (n int) {
	for _, f := range list {
		if !f.OK {
			n++
		}
	}
	return n
}

func printFindings(w io.Writer, list []finding) error {
	for _, f := range list {
		mark := "pass"
		switch {
		case !f.OK:
			mark = "FAIL"
		case f.Remedy != "":
			mark = "note"
		}
		if _, err := fmt.Fprintf(w, "%s  %s: %s\n", mark, f.Check, render.Text(f.Detail)); err != nil {
			return err
		}
		if f.Remedy != "" {
			fmt.Fprintf(w, "      do: %s\n", render.Text(f.Remedy))
		}
	}
	return nil
}
