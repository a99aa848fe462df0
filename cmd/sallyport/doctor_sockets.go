package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/redirect"
)

// sockets checks that file permissions keep the covered from the unix sockets
// of protected services: the guarantee beside the guard, which judges paths.
func (l *findings) sockets(cfg *config.Config, c *cover, agents []process) {
	if slices.ContainsFunc(cfg.Resources, func(r config.Resource) bool { return len(r.Unix) > 0 }) {
		l.held(cfg, c)
		if err := redirect.HaveStream(); err != nil {
			l.note("unix listener", err.Error(), "where agents of one network namespace do not trust each other, use TCP addresses or add bpf to lsm= of the kernel's command line (docs/threat-model.md)")
		}
	}
	who := accounts(cfg, c, agents)
	for _, r := range cfg.Resources {
		for _, path := range r.Unix {
			if path[0] == '@' {
				continue // an abstract name: no file, and one spelling
			}
			detail, err := keptFrom(path, who)
			l.check("unix socket "+path, detail, err, recipe(path))
		}
	}
}

// accounts are those that must not reach a socket: agents that run, users of
// configured workloads, and in mode host any other user.
func accounts(cfg *config.Config, c *cover, agents []process) (all []account) {
	seen := map[string]bool{}
	for i := range agents {
		p := &agents[i]
		for _, uid := range p.ids { // it may take each of them at any time
			a := account{name: fmt.Sprintf("user %d", uid), uid: uid, gids: p.gids, pid: p.pid}
			if key := fmt.Sprint(a.uid, a.gids, p.mounts); !seen[key] {
				seen[key] = true
				all = append(all, a)
			}
		}
	}
	for _, w := range cfg.Identity.Workloads {
		if w.Match.UID != nil {
			a := account{name: fmt.Sprintf("user %d (workload %s)", *w.Match.UID, w.Name), uid: *w.Match.UID}
			a.gids = groupsOf(a.uid)
			all = append(all, a)
		}
	}
	if c.everybody {
		all = append(all, account{name: "any user of this host", uid: 65534, gids: []uint32{65534}})
	}
	return all
}

func groupsOf(uid uint32) (gids []uint32) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return nil // in no group that the system knows
	}
	ids, _ := u.GroupIds()
	for _, s := range append(ids, u.Gid) {
		if n, err := strconv.ParseUint(s, 10, 32); err == nil {
			gids = append(gids, uint32(n))
		}
	}
	return gids
}

// keptFrom says what keeps everybody of who from the socket, or who is not
// kept from it.
func keptFrom(path string, who []account) (string, error) {
	// The folder's links are followed, /var/run is one.
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if errors.Is(err, unix.ENOENT) {
		return "its folder is not there now", nil
	}
	if err != nil {
		return "", err
	}
	real := filepath.Join(dir, filepath.Base(path))
	var st unix.Stat_t
	switch err := unix.Lstat(real, &st); {
	case errors.Is(err, unix.ENOENT):
		return "not there now: run this again with the server", nil
	case err != nil:
		return "", fmt.Errorf("%s: %w", real, err)
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return "", fmt.Errorf("%s is no socket", real)
	case st.Nlink > 1:
		return "", fmt.Errorf("%s has a second name (hard link), where other permissions may hold", real)
	}
	var names []string
	for i := range who {
		a := &who[i]
		root, paths := "", []string{real}
		if a.pid != 0 {
			root, paths = fmt.Sprintf("/proc/%d/root", a.pid), seenAt(a.pid, real, &st)
		}
		for _, p := range paths {
			ok, err := a.reaches(root, p)
			if a.pid != 0 && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)) {
				continue // it has ended
			}
			if err != nil {
				return "", fmt.Errorf("%s: %w", real, err)
			}
			name := a.name
			if p != real {
				name += " at " + p
			}
			if ok && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if names == nil {
		return "file permissions keep the covered from it", nil
	}
	return "", fmt.Errorf("%s can be reached, beside the passage, by %s", real, fewOf(names))
}

// seenAt returns the paths at which a process finds the socket, in its own root
// and mount namespace: its folder, or one above it, may be mounted there under
// another name, where other folders stand on the way. None has links in it.
func seenAt(pid int, path string, want *unix.Stat_t) (found []string) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // it has ended
	}
	defer unix.Close(root)
	tried := map[string]bool{}
	for _, mount := range append([]string{"/"}, mountPoints(pid)...) {
		// The path's last name, its last two, and so on: as much of it as the
		// mount may have taken along.
		for i := len(path) - 1; i >= 0; i-- {
			if path[i] != '/' {
				continue
			}
			p := filepath.Join(mount, path[i:])
			if !tried[p] && isAt(root, p, want) {
				found = append(found, p)
			}
			tried[p] = true
		}
		if !tried[mount] && isAt(root, mount, want) { // a mount of the socket alone
			found = append(found, mount)
		}
		tried[mount] = true
	}
	return found
}

func isAt(root int, path string, want *unix.Stat_t) bool {
	fd, err := unix.Openat2(root, strings.TrimPrefix(path, "/"), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Dev == want.Dev && st.Ino == want.Ino
}

// mountPoints lists those of a process, as it sees them (proc_pid_mountinfo(5)).
func mountPoints(pid int) (all []string) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 {
			all = append(all, unescapeMount.Replace(f[4]))
		}
	}
	return all
}

// unescapeMount undoes what the kernel writes for what separates fields.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// recipe is what closes a socket to all but the server's own group.
func recipe(path string) string {
	dir := filepath.Dir(path)
	server := ""
	if strings.HasPrefix(filepath.Base(path), ".s.PGSQL.") {
		server = "unix_socket_permissions = 0770 and unix_socket_group in postgresql.conf; "
	}
	return fmt.Sprintf("%schmod 0750 %s, owned by the server's user and by a group without agents; or hide it from agents: InaccessiblePaths=%[2]s in their units, no mount of it in their containers (docs/operations.md, Unix sockets)", server, dir)
}
