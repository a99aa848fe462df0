package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/workload"
)

// process is one of this host's, as /proc shows it.
type process struct {
	pid    int
	name   string
	cgroup string   // path below the cgroup2 root
	ids    []uint32 // real, effective, saved, file system user; then those of other threads
	gids   []uint32 // the same groups, and the supplementary ones
	caps   uint64   // permitted or effective, of any thread
	apart  bool     // in a pid namespace of its own: a container
	lesser bool     // its capabilities are of a user namespace of its own
	mounts string   // its mount namespace
}

func (p *process) root() bool { return slices.Contains(p.ids, 0) }

func (p *process) String() string {
	return fmt.Sprintf("%d (%s, user %d, %s)", p.pid, render.Line(p.name), p.ids[0], render.Line(p.cgroup))
}

// processes reads all of them but kernel threads; what ends meanwhile is left
// out.
func processes(h redirect.Host) (all []process, err error) {
	entries, err := os.ReadDir(procFile(h))
	if err != nil {
		return nil, err
	}
	user, _ := os.Readlink(procFile(h, "self", "ns", "user"))
	pids, _ := os.Readlink(procFile(h, "self", "ns", "pid"))
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		status, err1 := os.ReadFile(procFile(h, e.Name(), "status"))
		cgroup, err2 := os.ReadFile(procFile(h, e.Name(), "cgroup"))
		p := process{pid: pid}
		if err1 != nil || err2 != nil || !p.parse(string(status), string(cgroup)) {
			continue
		}
		p.threads(h)
		// What can't be read counts as our own namespace: it is looked at.
		if ns, err := os.Readlink(procFile(h, e.Name(), "ns", "user")); err == nil {
			p.lesser = ns != user
		}
		if ns, err := os.Readlink(procFile(h, e.Name(), "ns", "pid")); err == nil {
			p.apart = ns != pids
		}
		p.mounts, _ = os.Readlink(procFile(h, e.Name(), "ns", "mnt"))
		all = append(all, p)
	}
	return all, nil
}

// threads adds what its threads hold: each has capabilities of its own, and
// users.
func (p *process) threads(h redirect.Host) {
	dir := procFile(h, strconv.Itoa(p.pid), "task")
	tasks, err := os.ReadDir(dir)
	if err != nil || len(tasks) < 2 {
		return
	}
	for _, task := range tasks {
		status, err := os.ReadFile(filepath.Join(dir, task.Name(), "status"))
		t := process{}
		if err != nil || !t.parse(string(status), "0::"+p.cgroup) {
			continue // it has ended
		}
		p.caps |= t.caps
		for _, uid := range t.ids {
			if !slices.Contains(p.ids, uid) {
				p.ids = append(p.ids, uid)
			}
		}
		for _, gid := range t.gids {
			if !slices.Contains(p.gids, gid) {
				p.gids = append(p.gids, gid)
			}
		}
	}
}

func (p *process) parse(status, cgroup string) bool {
	numbers := func(s string) (out []uint32) {
		for _, f := range strings.Fields(s) {
			n, err := strconv.ParseUint(f, 10, 32)
			if err == nil {
				out = append(out, uint32(n))
			}
		}
		return out
	}
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "Name":
			p.name = value
		case "Kthread":
			if value == "1" {
				return false
			}
		case "Uid":
			p.ids = numbers(value)
		case "Gid", "Groups":
			p.gids = append(p.gids, numbers(value)...)
		case "CapPrm", "CapEff":
			n, _ := strconv.ParseUint(value, 16, 64)
			p.caps |= n
		}
	}
	for line := range strings.Lines(cgroup) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			p.cgroup = path
		}
	}
	return len(p.ids) == 4 && p.cgroup != ""
}

// cover says which cgroups are covered, by a configuration and what there is
// now.
type cover struct {
	everybody bool     // mode host
	edges     []string // the covered cgroups; the exempt ones in mode host
	agents    []workload.Glob
	uids      []uint32 // of configured workloads
}

const (
	guardedPath = "/sallyport.guarded"
	daemonPath  = "/sallyport.daemon"
)

func coverOf(cfg *config.Config, root string) (c cover, err error) {
	in := &cfg.Interception
	c.everybody = in.Mode == "host"
	found, err := workload.Host{Cgroups: root}.Find(in.Selectors())
	for _, f := range found {
		c.edges = append(c.edges, f.Path)
	}
	if c.everybody {
		c.edges = append(c.edges, daemonPath)
	} else {
		c.edges = append(c.edges, guardedPath)
	}
	slices.Sort(c.edges)
	c.edges = slices.Compact(c.edges)
	for _, w := range cfg.Identity.Workloads {
		if w.Match.UID != nil {
			c.uids = append(c.uids, *w.Match.UID)
		}
		if g, gerr := workload.CompileGlob(w.Match.Cgroup); w.Match.Cgroup != "" && gerr == nil {
			c.agents = append(c.agents, g)
		}
	}
	return c, err
}

func isBelow(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// covers reports whether connections of the process are turned.
func (c *cover) covers(p *process) bool {
	in := slices.ContainsFunc(c.edges, func(e string) bool { return isBelow(p.cgroup, e) })
	return in != c.everybody || isBelow(p.cgroup, guardedPath)
}

// agent reports whether a covered process is one that the guard is there for.
// In mode cgroup all are; in mode host those of configured workloads, and
// containers: the services of a host are covered too, and trusted.
func (c *cover) agent(p *process) bool {
	return !c.everybody || p.apart || isBelow(p.cgroup, guardedPath) ||
		slices.ContainsFunc(p.ids, func(id uint32) bool { return slices.Contains(c.uids, id) }) ||
		slices.ContainsFunc(c.agents, func(g workload.Glob) bool { return g.Match(p.cgroup) })
}

type power struct {
	name string
	bit  uint
}

// powers are capabilities with which a process can take the guard away, become
// somebody who can, or be somebody else.
var powers = []power{
	{"CAP_CHOWN", unix.CAP_CHOWN},
	{"CAP_DAC_OVERRIDE", unix.CAP_DAC_OVERRIDE},
	{"CAP_DAC_READ_SEARCH", unix.CAP_DAC_READ_SEARCH},
	{"CAP_FOWNER", unix.CAP_FOWNER},
	{"CAP_SETGID", unix.CAP_SETGID},
	{"CAP_SETUID", unix.CAP_SETUID},
	{"CAP_SETPCAP", unix.CAP_SETPCAP},
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN},
	{"CAP_SYS_MODULE", unix.CAP_SYS_MODULE},
	{"CAP_SYS_RAWIO", unix.CAP_SYS_RAWIO},
	{"CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE},
	{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN},
	{"CAP_SYS_BOOT", unix.CAP_SYS_BOOT},
	{"CAP_MKNOD", unix.CAP_MKNOD},
	{"CAP_SETFCAP", unix.CAP_SETFCAP},
	{"CAP_MAC_ADMIN", unix.CAP_MAC_ADMIN},
	{"CAP_PERFMON", unix.CAP_PERFMON},
	{"CAP_BPF", unix.CAP_BPF},
	{"CAP_CHECKPOINT_RESTORE", unix.CAP_CHECKPOINT_RESTORE},
}

// rawPackets lets a process send what no cgroup program sees.
var rawPackets = []power{{"CAP_NET_RAW", unix.CAP_NET_RAW}}

// holding names the processes that hold one of some capabilities.
func holding(ps []process, of []power) (found []string) {
	for i := range ps {
		p := &ps[i]
		if p.lesser {
			continue // they reach no further than what its namespace owns
		}
		var has []string
		for _, c := range of {
			if p.caps&(1<<c.bit) != 0 {
				has = append(has, c.name)
			}
		}
		if has != nil {
			found = append(found, p.String()+" "+strings.Join(has, " "))
		}
	}
	return found
}

// fewOf is at most a few of many.
func fewOf(found []string) string {
	const most = 8
	if more := len(found) - most; more > 0 {
		return fmt.Sprintf("%s; and %d more", strings.Join(found[:most], "; "), more)
	}
	return strings.Join(found, "; ")
}

// workloads checks who is covered for ways past the guard.
func (l *findings) workloads(h redirect.Host, cfg *config.Config, root string) {
	c, err := coverOf(cfg, root)
	l.check("covered cgroups", cmp.Or(strings.Join(c.edges, " "), "none"), err, "what looks like a container and can't be read as one is covered only in mode host: see docs/operations.md, Naming workloads")
	if err := errLoose(cfg); err != nil {
		l.note("selectors", err.Error(), remedyLoose)
	}
	all, err := processes(h)
	if err != nil {
		l.check("agents", "", err, "mount /proc")
		return
	}
	var agents, others []process
	for i := range all {
		switch p := &all[i]; {
		case !c.covers(p):
		case c.agent(p):
			agents = append(agents, *p)
		case !p.root():
			others = append(others, *p)
		}
	}
	const how = "systemd: CapabilityBoundingSet= and NoNewPrivileges=yes; Docker, podman: --cap-drop=ALL --security-opt=no-new-privileges; Kubernetes: securityContext.capabilities.drop: [ALL]"
	failed := func(what string, found []string) error {
		if found == nil {
			return nil
		}
		return errors.New(what + " (process, what it holds): " + fewOf(found))
	}
	l.check("agents", "none holds a capability that undoes the cover",
		failed("covered processes that could go round the guard", holding(agents, powers)),
		"drop these capabilities: with them nothing can hold an agent ("+how+")")
	l.check("raw packets", "no covered process may send any",
		failed("covered processes that could send packets past the guard", holding(agents, rawPackets)),
		"drop CAP_NET_RAW ("+how+"); ping works without it where net.ipv4.ping_group_range allows")
	if found := holding(others, append(slices.Clone(powers), rawPackets...)); found != nil {
		l.note("services", "covered, trusted as no workload is of their user, and able to go round the guard: "+fewOf(found), "see that no agent can make them do its work, or drop the capabilities")
	}
	l.check("cgroups", "nobody but root can move a process across the cover's edge", c.open(root),
		"give the cgroup back to root (chown root, chmod 644 cgroup.procs; systemd: no Delegate= above agents), or use mode host")
	l.wires(h, cfg, slices.Concat(agents, others))
	l.sockets(cfg, &c, agents)
}

// open looks for cgroups from which, or into which, somebody who is not root
// could move a process across an edge of the cover. The kernel asks for write
// access to cgroup.procs of the nearest cgroup above both (cgroups(7)).
func (c *cover) open(root string) error {
	var found []string
	seen := map[string]bool{}
	for _, edge := range c.edges {
		for dir := edge; dir != "/"; {
			dir = dir[:max(1, strings.LastIndexByte(dir, '/'))]
			if seen[dir] {
				continue
			}
			seen[dir] = true
			var st unix.Stat_t
			if err := unix.Stat(root+dir+"/cgroup.procs", &st); err != nil {
				continue // gone, or the root cgroup of a version that has none
			}
			switch {
			case st.Mode&0o002 != 0:
				found = append(found, dir+" (everybody)")
			case st.Mode&0o020 != 0 && st.Gid != 0:
				found = append(found, fmt.Sprintf("%s (group %d)", dir, st.Gid))
			case st.Uid != 0: // who can give himself what the mode lacks
				found = append(found, fmt.Sprintf("%s (user %d)", dir, st.Uid))
			}
		}
	}
	if found == nil {
		return nil
	}
	return fmt.Errorf("processes can be moved across the cover's edge in %s", fewOf(found))
}
