package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/tlsport"
)

const (
	// againSigner is the least time from one start of a signer to the next.
	againSigner = time.Second
	// makeTime bounds the making of an authority.
	makeTime = 30 * time.Second
)

// authorityFiles are beside the state, which is the daemon's: root's. Everybody
// may read the certificates.
type authorityFiles struct{ folder, root, intermediate, key string }

func authorityAt(state string) authorityFiles {
	folder := filepath.Clean(state) + ".authority"
	in := func(name string) string { return filepath.Join(folder, name) }
	return authorityFiles{folder, in("certificate.pem"), in("intermediate.pem"), in("key.pem")}
}

// checkAuthority fails where a host's authority can't be used: it is another
// version's, or not whole. One that has still to be made can.
func checkAuthority(cfg *config.Config) error {
	if !cfg.Authority.Enabled {
		return nil
	}
	cs, err := readCertificates(cfg)
	if errors.Is(err, errNoAuthority) {
		return nil
	}
	if err != nil {
		return err
	}
	text, err := os.ReadFile(authorityAt(cfg.State).intermediate)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err = tlsport.Issued(cs[0], text)
	return err
}

// signer is the process that holds the key, started again when it ends. A nil
// signer signs nothing.
type signer struct {
	log    *slog.Logger
	start  func(stdin *os.File) (*privsep.Child, error)
	making bool // an authority: else its files are only read
	theirs int  // its end of the socket, kept for its next start
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	order signingOrder
	child *privsep.Child
	stdin *os.File
}

// newSigner makes the socket and starts the process. The file is the daemon's
// end.
func newSigner(cfg *config.Config, log *slog.Logger) (*signer, *os.File, error) {
	uid, gid, err := daemonUser(cfg.User)
	if err != nil {
		return nil, nil, err
	}
	at := authorityAt(cfg.State)
	err = guardFolder(cfg.State) // that it is in
	if err == nil {
		err = os.MkdirAll(at.folder, 0o755)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("authority: %w", err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	s := &signer{log: log, theirs: fds[1], done: make(chan struct{}), order: orderOf(cfg)}
	s.start = func(stdin *os.File) (*privsep.Child, error) {
		files, err := signerFiles(s.theirs, at, s.making)
		if err != nil {
			stdin.Close()
			return nil, fmt.Errorf("authority: %w", err)
		}
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			for _, f := range append(files, stdin) {
				f.Close()
			}
			return nil, err
		}
		return privsep.StartHelper(privsep.Options{
			Path: "/proc/self/exe", Args: []string{"sallyport", signerCommand},
			Env: []string{"GOMAXPROCS=1", "GOMEMLIMIT=64MiB"}, UID: uid, GID: gid, Files: files, Stderr: os.Stderr,
		}, privsep.SignerGroup, stdin, null)
	}
	err = s.provide(at.root)
	if err == nil {
		err = s.begin()
	}
	if err != nil {
		closeAll(fds[:])
		if s.stdin != nil {
			s.stdin.Close()
		}
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.watch(ctx)
	return s, os.NewFile(uintptr(fds[0]), "signer"), nil
}

// provide has an authority made where there is none, by a process that ends then:
// with it goes what there was of the root's key.
func (s *signer) provide(root string) error {
	if fi, err := os.Stat(root); err == nil && fi.Size() > 0 {
		return nil
	}
	s.making = true
	defer func() { s.making = false }()
	if err := s.begin(); err != nil {
		return err
	}
	select {
	case <-s.child.Done():
	case <-time.After(makeTime):
		_ = s.child.Signal(os.Kill)
	}
	if err := s.child.Wait(); err != nil {
		return fmt.Errorf("the authority could not be made, for the reason that the signer has told: %w", err)
	}
	return nil
}

// signerFiles are what a signer has open. The one that serves can't write: whoever
// took it over could otherwise have another root installed.
func signerFiles(socket int, at authorityFiles, making bool) (files []*os.File, err error) {
	dup, err := unix.FcntlInt(uintptr(socket), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	files = append(files, os.NewFile(uintptr(dup), "asks"))
	flags := os.O_RDONLY
	if making {
		flags = os.O_RDWR | os.O_CREATE
	}
	for _, f := range []struct {
		name string
		mode os.FileMode
	}{{at.root, 0o644}, {at.intermediate, 0o644}, {at.key, 0o600}} {
		file, err := os.OpenFile(f.name, flags|unix.O_NOFOLLOW, f.mode)
		if err != nil {
			for _, open := range files {
				open.Close()
			}
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

func orderOf(cfg *config.Config) signingOrder {
	o := signingOrder{Host: cfg.Host}
	o.Limits.Names, o.Limits.Prefixes = cfg.AuthorityLimits()
	o.Sign.Names, o.Sign.Prefixes = cfg.Served()
	return o
}

// begin starts the process and gives it its order.
func (s *signer) begin() error {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	child, err := s.start(theirs)
	if err != nil {
		ours.Close()
		return fmt.Errorf("start the signer: %w", err)
	}
	if s.stdin != nil {
		s.stdin.Close()
	}
	s.child, s.stdin = child, ours
	if err := s.tell(); err != nil {
		_ = child.Signal(os.Kill)
		return err
	}
	return nil
}

// tell hands the order over; mu is held. A signer that does not read is waited
// for no longer than it takes to see that.
func (s *signer) tell() error {
	b, err := json.Marshal(s.order)
	if err != nil {
		return err
	}
	_ = s.stdin.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if _, err := s.stdin.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("give the signer its order: %w", err)
	}
	return nil
}

// allow says what a configuration's leaves may be signed for.
func (s *signer) allow(cfg *config.Config) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = orderOf(cfg)
	if err := s.tell(); err != nil {
		s.log.Error("agents get no certificates for what is new", "error", err)
		_ = s.child.Signal(os.Kill) // and is started with it
	}
}

// watch starts the process again whenever it ends.
func (s *signer) watch(ctx context.Context) {
	defer close(s.done)
	for wait := againSigner; ; wait = min(2*wait, time.Minute) {
		s.mu.Lock()
		child := s.child
		s.mu.Unlock()
		began := time.Now()
		select {
		case <-child.Done():
		case <-ctx.Done():
			return
		}
		s.log.Error("the signer has ended: agents get no new certificates until it is back", "error", child.Wait())
		if time.Since(began) > time.Minute {
			wait = againSigner
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		if err := s.begin(); err != nil {
			s.log.Error("the signer can't be started", "error", err)
		}
	}
}

func (s *signer) close() {
	if s == nil {
		return
	}
	s.cancel()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.child.Signal(os.Kill)
	_ = s.child.Wait()
	s.stdin.Close()
	unix.Close(s.theirs)
}

// startSigner returns the daemon's end of the signer's socket, or of nothing
// where agents have no TLS.
func (l *loader) startSigner() (asks *os.File, err error) {
	if !l.cfg.Authority.Enabled {
		return os.Open(os.DevNull)
	}
	l.signing, asks, err = newSigner(l.cfg, l.log)
	return asks, err
}
