package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/discover"
	"sallyport.dev/sallyport/intercept/redirect"
)

func init() { commands = append(commands, doctorCmd) }

// finding is one line of the doctor's.
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

func doctorCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check that this host can be guarded, and say what to do where it can't",
		Long: `Checks the configuration, the kernel and its features, the capabilities of the
caller, whether the kernel accepts every program, and the health of a guard that
is up. It changes nothing. Exit code 1 when a check fails. Run it as root.`,
		Example: `  sallyport doctor
  sallyport doctor --json | jq '.[] | select(.ok | not)'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := cmd.Flags().GetString("config")
			if err != nil {
				return err
			}
			list := diagnose(redirect.Host{}, path)
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
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

// diagnose makes every check. Without a configuration it checks the defaults.
func diagnose(h redirect.Host, path string) []finding {
	var list []finding
	check := func(name, ok string, err error, remedy string) {
		f := finding{Check: name, OK: err == nil, Detail: ok}
		if err != nil {
			f.Detail, f.Remedy = err.Error(), remedy
			// Sentinels carry their remedy after the colon.
			if what, how, found := strings.Cut(f.Detail, ": "); found && remedy == "" {
				f.Detail, f.Remedy = what, how
			}
		}
		list = append(list, f)
	}
	cfg, err := config.Load(path)
	check("configuration", path, err, "correct the file; docs/operations.md lists its fields")
	if err != nil {
		cfg = &config.Config{}
		cfg.Interception.Port, cfg.Interception.Pins = 15432, redirect.DefaultPins
	}
	in := cfg.Interception
	check("enforcement", "enforce", enforces(cfg), "set enforcement: enforce, once the record shows nothing that must not be refused")
	check("kernel", "6.1 or newer", h.CheckKernel(), "")
	check("BTF", "/sys/kernel/btf/vmlinux", h.CheckBTF(), "")
	root, err := h.CgroupRoot()
	check("cgroup2", root, err, "")
	check("capabilities", "CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN", h.CheckCapabilities(), "")
	check("bpffs", "for "+in.Pins, h.CheckBPFFS(in.Pins), "")
	check("unprivileged BPF", "off", h.CheckUnprivileged(), "sysctl kernel.unprivileged_bpf_disabled=2")
	check("port of the passage", fmt.Sprint(in.Port), h.CheckPort(in.Port), "")
	probe(h, check)
	detail, err := guardHealth(in.Pins)
	remedy := "run `sallyport guard up`"
	if errors.Is(err, fs.ErrPermission) {
		remedy = "run this as root"
	}
	check("guard", detail, err, remedy)
	if root != "" {
		detail, err = agents(h, append([]string{"/sallyport.guarded"}, in.Cgroups...))
		check("agents", detail, err, "drop these capabilities from the workloads: with them nothing can hold an agent")
	}
	inv, err := discover.Look()
	detail = ""
	if err == nil {
		detail, err = forwarders(cfg, inv)
	}
	check("forwarders", detail, err, "make what they listen at addresses of the resource behind them, and rule on each in interception.forwarders (docs/operations.md, Forwarders)")
	return list
}

// probe offers each program to the kernel. On a host that lacks what all of them
// need, their errors would only say so again, and less clearly.
func probe(h redirect.Host, check func(name, ok string, err error, remedy string)) {
	if h.CheckKernel() != nil || h.CheckBTF() != nil || h.CheckCapabilities() != nil {
		check("programs", "", errors.New("not tried: they need the kernel, BTF and capabilities"), "do what is said above first")
		return
	}
	programs, err := redirect.Probe()
	if err != nil {
		check("programs", "", err, "build the program again: its objects are broken")
	}
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		check("program "+name, "the kernel accepts it", programs[name], "boot Linux 6.1 or newer with CONFIG_CGROUP_BPF=y")
	}
}

func guardHealth(pins string) (string, error) {
	s, err := redirect.GetStatus(pins)
	if errors.Is(err, redirect.ErrNotUp) {
		return "not up; `sallyport guard up` puts it in place", nil
	}
	if err != nil {
		return "", err
	}
	for _, p := range s.Programs {
		if !p.Attached {
			return "", fmt.Errorf("%s is missing: %s", p.Name, p.Problem)
		}
	}
	return fmt.Sprintf("up, %d programs attached", len(s.Programs)), nil
}

// agents looks for capabilities in covered cgroups that undo the cover.
func agents(h redirect.Host, cgroups []string) (string, error) {
	var all []string
	for _, c := range cgroups {
		found, err := h.Powerful(c)
		if err != nil {
			return "", err
		}
		all = append(all, found...)
	}
	if len(all) > 0 {
		return "", fmt.Errorf("covered processes that could go round the guard (pid, capability): %s", strings.Join(all, ", "))
	}
	return "none holds a capability that undoes the cover", nil
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
		if !f.OK {
			mark = "FAIL"
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
