package privsep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/workload"
)

// Workload is who a process is taken for, and where its token stands.
type Workload struct {
	Name      string
	Match     Match
	TokenFile string // template with {pid} and {uid}; "" where sallyport exec gives it
	Tokenless bool   // its processes are known otherwise: none is read
	InBand    bool   // its clients send it: none is read but one of sallyport exec's
}

// Match selects processes; all given parts must hold, and one must be given.
type Match struct {
	Cgroup string // glob over the path below the cgroup2 root; ** crosses slashes
	UID    *uint32
	// Exe is a path of the host: the executable must be this very file. The
	// path that a process's own namespace shows for it is not looked at.
	Exe string
	// What its cgroup is; see workload.Selector.
	Systemd    string
	Container  *workload.Container
	Kubernetes *workload.Kubernetes
}

// selector is the part that the cgroup's description is held against.
func (m *Match) selector() (s workload.Selector, ok bool) {
	s = workload.Selector{Systemd: m.Systemd, Container: m.Container, Kubernetes: m.Kubernetes}
	return s, s != (workload.Selector{})
}

// Limits of a workload's requests: beyond running ones wait, beyond waiting
// ones are refused, so that a file that hangs holds up its own workload only.
const (
	running = 16
	waiting = 256
)

type entry struct {
	Workload
	cgroup workload.Glob // matches nothing where Match has none
	what   workload.Set  // the same
	slots  chan struct{}
	queued atomic.Int32
}

// Prover proves peers against the kernel's records: the loader's half of
// identity. The zero Prover refuses everybody.
type Prover struct {
	root      string // where cgroup2 is mounted
	guarded   string // parent of the cgroups that sallyport exec makes
	workloads atomic.Pointer[[]*entry]
	described descriptions
}

// NewProver returns a Prover. cgroupRoot is where cgroup2 is mounted, guarded
// the path below it whose children sallyport exec makes (/sallyport.guarded).
func NewProver(cgroupRoot, guarded string, ws []Workload) (*Prover, error) {
	var fsys unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &fsys); err != nil || fsys.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, fmt.Errorf("privsep: no cgroup2 at %q: mount it (mount -t cgroup2 none DIR)", cgroupRoot)
	}
	p := &Prover{root: cgroupRoot, guarded: guarded}
	p.described.host = workload.Host{Cgroups: cgroupRoot}
	return p, p.SetWorkloads(ws)
}

// SetWorkloads replaces the workloads for all later proofs; on an error the
// old ones stay.
func (p *Prover) SetWorkloads(ws []Workload) error {
	var out []*entry
	seen := map[string]bool{}
	for _, w := range ws {
		if w.Name == "" || len(w.Name) > maxString || seen[w.Name] {
			return fmt.Errorf("workload %q: names must be set and unique", w.Name)
		}
		seen[w.Name] = true
		if w.Match == (Match{}) {
			return fmt.Errorf("workload %s: match: give at least one of cgroup, uid, exe, systemd, container, kubernetes", w.Name)
		}
		if err := checkTemplate(w.TokenFile); err != nil {
			return fmt.Errorf("workload %s: %w", w.Name, err)
		}
		c := &entry{Workload: w, slots: make(chan struct{}, running)}
		if w.Match.Cgroup != "" {
			var err error
			if c.cgroup, err = compileGlob(w.Match.Cgroup); err != nil {
				return fmt.Errorf("workload %s: %w", w.Name, err)
			}
		}
		if sel, ok := w.Match.selector(); ok {
			err := sel.Check()
			if err == nil {
				c.what, err = workload.Compile([]workload.Selector{sel})
			}
			if err != nil {
				return fmt.Errorf("workload %s: match: %w", w.Name, err)
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
	cgroupID    uint64
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
	token, person, err := p.token(ctx, w, proc, f)
	if err != nil {
		return intercept.Proof{}, fmt.Errorf("workload %s: %w", w.Name, err)
	}
	if err := proc.alive(); err != nil {
		return intercept.Proof{}, err
	}
	return intercept.Proof{Workload: w.Name, Exe: f.exe, Cgroup: f.cgroup, Token: token, Person: person}, nil
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
	f.cgroupID = id
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

// match finds the one workload that facts match.
func (p *Prover) match(f facts) (*entry, error) {
	found, unknown := p.matching(f)
	if unknown != nil && !errors.Is(unknown, fs.ErrNotExist) {
		// A workload that would match too is not seen: whose is it?
		return nil, fmt.Errorf("what runs in its cgroup can't be told: %w", unknown)
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		err := fmt.Errorf("no workload matches this process (exe %q, uid %d, cgroup %q): name it in identity.workloads", f.exe, f.uid, f.cgroup)
		if unknown != nil {
			err = fmt.Errorf("%w; what runs in its cgroup is unknown: %w", err, unknown)
		}
		return nil, err
	}
	return nil, fmt.Errorf("workloads %s and %s both match this process (exe %q, uid %d, cgroup %q): make their match exclusive",
		found[0].Name, found[1].Name, f.exe, f.uid, f.cgroup)
}

// matching returns all workloads that facts match; unknown is why its cgroup
// could not be described, if one asked for that.
func (p *Prover) matching(f facts) (found []*entry, unknown error) {
	ws := p.workloads.Load()
	if ws == nil {
		return nil, nil
	}
	for _, w := range *ws {
		if !w.matches(f) {
			continue
		}
		if _, ok := w.Match.selector(); ok {
			d, err := p.described.of(f.cgroupID, f.cgroup)
			if err != nil {
				unknown = err
			}
			if _, ok := w.what.Match(&d); !ok {
				continue
			}
		}
		found = append(found, w)
	}
	return found, unknown
}

// matches holds facts against what needs no description.
func (w *entry) matches(f facts) bool {
	m := w.Match
	if m.Cgroup != "" && !w.cgroup.Match(f.cgroup) || m.UID != nil && *m.UID != f.uid {
		return false
	}
	if m.Exe == "" {
		return true
	}
	var st unix.Stat_t
	return !f.exeReplaced && unix.Stat(m.Exe, &st) == nil && st.Dev == f.dev && st.Ino == f.inode
}

// token reads the workload's token: the one given with sallyport exec for the
// process's cgroup, else the one that the template names; and the token of the
// person that sallyport exec had it act for, nil for nobody. A token file may
// hang (it can stand on a file system that the workload serves): then only
// this workload's slots are taken.
func (p *Prover) token(ctx context.Context, w *entry, proc *process, f facts) (token, person []byte, err error) {
	name, inExec := p.execCgroup(f.cgroup)
	if (w.Tokenless || w.InBand) && !inExec {
		return nil, nil, nil
	}
	if w.queued.Add(1) > waiting {
		w.queued.Add(-1)
		return nil, nil, errors.New("too many processes of it ask at once: try again")
	}
	defer w.queued.Add(-1)
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("its token files do not answer: %w", ctx.Err())
	}
	if inExec {
		if !w.Tokenless {
			path, err := p.execToken(name)
			if err != nil {
				return nil, nil, err
			}
			if token, err = readHost(path, f.uid); err != nil {
				return nil, nil, err
			}
		}
		person, err = p.execPerson(name)
		return token, person, err
	}
	if w.TokenFile == "" {
		return nil, nil, errors.New("it has no token_file: name one, or start the process with `sallyport exec --token-file`")
	}
	token, err = readTemplate(proc, f.uid, w.TokenFile)
	return token, nil, err
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
