package privsep

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
)

// Workload is who a process is taken for, and where its token stands.
type Workload struct {
	Name      string
	Match     Match
	TokenFile string // template with {pid} and {uid}; "" where sallyport exec gives it
}

// Match selects processes; all given parts must hold, and one must be given.
type Match struct {
	Cgroup string // glob over the path below the cgroup2 root; ** crosses slashes
	UID    *uint32
	// Exe is a path of the host: the executable must be this very file. The
	// path that a process's own namespace shows for it is not looked at.
	Exe string
}

// Limits of a workload's requests: beyond running ones wait, beyond waiting
// ones are refused, so that a file that hangs holds up its own workload only.
const (
	running = 16
	waiting = 256
)

type workload struct {
	Workload
	cgroup *regexp.Regexp
	slots  chan struct{}
	queued atomic.Int32
}

// Prover proves peers against the kernel's records: the loader's half of
// identity. The zero Prover refuses everybody.
type Prover struct {
	root      string // where cgroup2 is mounted
	guarded   string // parent of the cgroups that sallyport exec makes
	workloads atomic.Pointer[[]*workload]
}

// NewProver returns a Prover. cgroupRoot is where cgroup2 is mounted, guarded
// the path below it whose children sallyport exec makes (/sallyport.guarded).
func NewProver(cgroupRoot, guarded string, ws []Workload) (*Prover, error) {
	var fsys unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &fsys); err != nil || fsys.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, fmt.Errorf("privsep: no cgroup2 at %q: mount it (mount -t cgroup2 none DIR)", cgroupRoot)
	}
	p := &Prover{root: cgroupRoot, guarded: guarded}
	return p, p.SetWorkloads(ws)
}

// SetWorkloads replaces the workloads for all later proofs; on an error the
// old ones stay.
func (p *Prover) SetWorkloads(ws []Workload) error {
	var out []*workload
	seen := map[string]bool{}
	for _, w := range ws {
		if w.Name == "" || len(w.Name) > maxString || seen[w.Name] {
			return fmt.Errorf("workload %q: names must be set and unique", w.Name)
		}
		seen[w.Name] = true
		if w.Match == (Match{}) {
			return fmt.Errorf("workload %s: match: give at least one of cgroup, uid, exe", w.Name)
		}
		if err := checkTemplate(w.TokenFile); err != nil {
			return fmt.Errorf("workload %s: %w", w.Name, err)
		}
		c := &workload{Workload: w, slots: make(chan struct{}, running)}
		if w.Match.Cgroup != "" {
			var err error
			if c.cgroup, err = compileGlob(w.Match.Cgroup); err != nil {
				return fmt.Errorf("workload %s: %w", w.Name, err)
			}
		}
		out = append(out, c)
	}
	p.workloads.Store(&out)
	return nil
}

// facts are what the kernel says of a live process right now, found equal to
// its record of the connection.
type facts struct {
	uid         uint32
	cgroup      string
	exe         string
	dev, inode  uint64
	exeReplaced bool
}

// Prove implements intercept.Prover: the process of peer is alive and the
// same, has not changed its cgroup or user since, and exactly one workload
// matches it; that workload's token file is read.
func (p *Prover) Prove(ctx context.Context, peer *intercept.Peer) (intercept.Proof, error) {
	proc, err := openProcess(peer)
	if err != nil {
		return intercept.Proof{}, err
	}
	defer proc.close()
	f, err := p.facts(proc, peer)
	if err != nil {
		return intercept.Proof{}, err
	}
	w, err := p.match(f)
	if err != nil {
		return intercept.Proof{}, err
	}
	token, err := p.token(ctx, w, proc, f)
	if err != nil {
		return intercept.Proof{}, fmt.Errorf("workload %s: %w", w.Name, err)
	}
	if err := proc.alive(); err != nil {
		return intercept.Proof{}, err
	}
	return intercept.Proof{Workload: w.Name, Exe: f.exe, Cgroup: f.cgroup, Token: token}, nil
}

func (p *Prover) facts(proc *process, peer *intercept.Peer) (f facts, err error) {
	if f.uid, err = proc.uid(); err != nil {
		return f, err
	}
	if f.uid != peer.UID {
		return f, fmt.Errorf("the process connected as user %d and is user %d now: connect again", peer.UID, f.uid)
	}
	if f.cgroup, err = proc.cgroup(); err != nil {
		return f, err
	}
	id, err := p.cgroupID(f.cgroup)
	if err != nil || id != peer.CgroupID {
		return f, fmt.Errorf("the process has left the cgroup that it connected from (now %s): connect again", f.cgroup)
	}
	if f.dev, f.inode, f.exe, err = proc.exe(); err != nil {
		return f, err
	}
	if f.inode != peer.ExeInode {
		f.exe = "" // another program runs now; do not name it as the one that connected
	}
	f.exeReplaced = f.inode != peer.ExeInode || f.dev != peer.ExeDev
	return f, nil
}

// cgroupID returns the cgroup2 id of a path: its inode number.
func (p *Prover) cgroupID(path string) (uint64, error) {
	fd, err := p.openCgroup(path)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return st.Ino, err
}

func (p *Prover) openCgroup(path string) (int, error) {
	root, err := unix.Open(p.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	return unix.Openat2(root, "."+path, &how)
}

func (p *Prover) match(f facts) (*workload, error) {
	var found []*workload
	if ws := p.workloads.Load(); ws != nil {
		for _, w := range *ws {
			if w.matches(f) {
				found = append(found, w)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("no workload matches this process (exe %q, uid %d, cgroup %q): name it in identity.workloads", f.exe, f.uid, f.cgroup)
	}
	return nil, fmt.Errorf("workloads %s and %s both match this process (exe %q, uid %d, cgroup %q): make their match exclusive",
		found[0].Name, found[1].Name, f.exe, f.uid, f.cgroup)
}

func (w *workload) matches(f facts) bool {
	m := w.Match
	if w.cgroup != nil && !w.cgroup.MatchString(f.cgroup) || m.UID != nil && *m.UID != f.uid {
		return false
	}
	if m.Exe == "" {
		return true
	}
	var st unix.Stat_t
	return !f.exeReplaced && unix.Stat(m.Exe, &st) == nil && st.Dev == f.dev && st.Ino == f.inode
}

// token reads the workload's token: the one given with sallyport exec for the
// process's cgroup, else the one that the template names. A token file may
// hang (it can stand on a file system that the workload serves): then only
// this workload's slots are taken.
func (p *Prover) token(ctx context.Context, w *workload, proc *process, f facts) ([]byte, error) {
	if w.queued.Add(1) > waiting {
		w.queued.Add(-1)
		return nil, errors.New("too many processes of it ask at once: try again")
	}
	defer w.queued.Add(-1)
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("its token files do not answer: %w", ctx.Err())
	}
	if name, ok := p.execCgroup(f.cgroup); ok {
		path, err := p.execToken(name)
		if err != nil {
			return nil, err
		}
		return readHost(path, f.uid)
	}
	if w.TokenFile == "" {
		return nil, errors.New("it has no token_file: name one, or start the process with `sallyport exec --token-file`")
	}
	return readTemplate(proc, f.uid, w.TokenFile)
}

// execCgroup returns the cgroup made by sallyport exec that path is in.
func (p *Prover) execCgroup(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, p.guarded+"/"+execPrefix)
	if !ok || p.guarded == "" {
		return "", false
	}
	name, _, _ := strings.Cut(rest, "/")
	return p.guarded + "/" + execPrefix + name, true
}

// execToken returns the token file's path that a cgroup was made with. It
// stands in an attribute of the cgroup that only root can read and write, so
// that it outlives the loader and goes with the cgroup.
func (p *Prover) execToken(cgroup string) (string, error) {
	fd, err := p.openCgroup(cgroup)
	if err != nil {
		return "", fmt.Errorf("cgroup %s: %w", cgroup, err)
	}
	defer unix.Close(fd)
	b := make([]byte, maxString)
	n, err := unix.Fgetxattr(fd, tokenAttr, b)
	if err != nil {
		return "", fmt.Errorf("cgroup %s carries no token (%w): start the process with `sallyport exec --token-file`", cgroup, err)
	}
	return string(b[:n]), nil
}

// cgroupDir returns the folder of a cgroup.
func (p *Prover) cgroupDir(path string) string { return p.root + path }

var _ intercept.Prover = (*Prover)(nil)
