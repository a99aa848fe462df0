package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/tlsport"
)

func init() { commands = append(commands, signerCmd) }

const (
	// signerCommand is what the loader starts to hold the authority's key.
	signerCommand = "signer"
	// againSigner is the least time from one start of a signer to the next.
	againSigner = time.Second
)

// signingOrder is a signer's: a line of JSON by stdin. The latest counts.
type signingOrder struct {
	Host   string
	Limits tlsport.Permitted // of an authority that has to be made
	Sign   tlsport.Permitted // what leaves may be signed for
}

func signerCmd() *cobra.Command {
	return &cobra.Command{
		Use:    signerCommand,
		Short:  "Hold the key of this host's authority, for the loader",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := privsep.Confine(); err != nil {
				return err
			}
			signal.Ignore(unix.SIGHUP, unix.SIGPIPE)
			conn, err := net.FileConn(os.NewFile(3, "asks"))
			if err != nil {
				return err
			}
			return sign(conn, os.NewFile(4, "certificate"), os.NewFile(5, "key"), os.Stdin)
		},
	}
}

// sign serves until the loader is gone.
func sign(conn net.Conn, certificate, key *os.File, orders io.Reader) error {
	in := json.NewDecoder(bufio.NewReader(orders))
	var o signingOrder
	if err := in.Decode(&o); err != nil {
		return fmt.Errorf("the loader's order: %w", err)
	}
	a, err := openAuthority(certificate, key, &o)
	if err != nil {
		return err
	}
	s := tlsport.NewSigner(a, time.Now)
	s.Allow(o.Sign)
	go func() {
		for {
			var o signingOrder
			if in.Decode(&o) != nil {
				conn.Close() // the loader is gone
				return
			}
			s.Allow(o.Sign)
		}
	}()
	if err := s.Serve(conn); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// openAuthority reads the authority, or makes it where the files are empty: the
// key first, so that a certificate always has its key.
func openAuthority(certificate, key *os.File, o *signingOrder) (*tlsport.Authority, error) {
	k, err := io.ReadAll(io.LimitReader(key, 64<<10))
	if err != nil {
		return nil, err
	}
	c, err := io.ReadAll(io.LimitReader(certificate, 64<<10))
	if err != nil {
		return nil, err
	}
	if len(k) > 0 && len(c) > 0 {
		return tlsport.LoadAuthority(c, k)
	}
	if len(c) > 0 {
		return nil, errors.New("the authority's key is missing: restore it, or make another authority (sallyport trust renew)")
	}
	a, c, err := tlsport.NewAuthority(o.Host, o.Limits, nil, time.Now())
	if err != nil {
		return nil, err
	}
	if k, err = a.KeyPEM(); err != nil {
		return nil, err
	}
	for _, w := range []struct {
		f    *os.File
		text []byte
	}{{key, k}, {certificate, c}} {
		if err := w.f.Truncate(0); err != nil {
			return nil, err
		}
		if _, err := w.f.WriteAt(w.text, 0); err != nil {
			return nil, err
		}
		if err := w.f.Sync(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// authorityFiles are beside the state, which is the daemon's: root's. Everybody
// may read the certificate.
func authorityFiles(state string) (folder, certificate, key string) {
	folder = filepath.Clean(state) + ".authority"
	return folder, filepath.Join(folder, "certificate.pem"), filepath.Join(folder, "key.pem")
}

// signer is the process that holds the key, started again when it ends. A nil
// signer signs nothing.
type signer struct {
	log    *slog.Logger
	start  func(stdin *os.File) (*privsep.Child, error)
	theirs int // its end of the socket, kept for its next start
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
	folder, certificate, key := authorityFiles(cfg.State)
	err = guardFolder(cfg.State) // that it is in
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
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
		files, err := signerFiles(s.theirs, certificate, key)
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
	if err := s.begin(); err != nil {
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

func signerFiles(socket int, certificate, key string) (files []*os.File, err error) {
	dup, err := unix.FcntlInt(uintptr(socket), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	files = append(files, os.NewFile(uintptr(dup), "asks"))
	for _, f := range []struct {
		name string
		mode os.FileMode
	}{{certificate, 0o644}, {key, 0o600}} {
		file, err := os.OpenFile(f.name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, f.mode)
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
