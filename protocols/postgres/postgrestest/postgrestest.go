// Package postgrestest starts throwaway PostgreSQL servers for tests.
package postgrestest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Bin is where the server's programs stand: Debian's, or those in the folder
// that SALLYPORT_POSTGRES names (see `make test-versions`).
var Bin = func() string {
	if dir := os.Getenv("SALLYPORT_POSTGRES"); dir != "" {
		return filepath.Clean(dir) + "/"
	}
	return "/usr/lib/postgresql/15/bin/"
}()

const nobody = 65534

// Server is a running server: its superuser is postgres, its database
// postgres, and it trusts everybody on its socket and on loopback.
type Server struct {
	Dir  string         // of its unix socket
	Addr netip.AddrPort // on loopback
	data string
	args string // of the server
}

// Start starts a server in a folder of its own, with settings of the form
// name=value, and runs sql in it as the superuser.
func Start(sql string, settings ...string) (*Server, error) {
	dir, err := os.MkdirTemp("", "postgrestest")
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: dir, data: filepath.Join(dir, "d")}
	if err := s.start(sql, settings); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(sql string, settings []string) error {
	if os.Getuid() == 0 { // the server refuses to run as root
		if err := os.Chown(s.Dir, nobody, nobody); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.Addr = l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	if err := s.run("initdb", "-D", s.data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"); err != nil {
		return err
	}
	options := []string{"listen_addresses=127.0.0.1", fmt.Sprintf("port=%d", s.Addr.Port()), "fsync=off", "password_encryption=scram-sha-256", "unix_socket_directories=" + s.Dir}
	s.args = "-c " + strings.Join(append(options, settings...), " -c ")
	if err := s.Resume(); err != nil {
		return err
	}
	return s.Exec(context.Background(), sql)
}

// Crash ends the server at once, with nothing written that was not yet.
func (s *Server) Crash() error { return s.run("pg_ctl", "-D", s.data, "-m", "immediate", "-w", "stop") }

// Resume starts a server that has crashed, as it was.
func (s *Server) Resume() error {
	return s.run("pg_ctl", "-D", s.data, "-w", "-l", filepath.Join(s.Dir, "log"), "-o", s.args, "start")
}

func (s *Server) run(name string, args ...string) error {
	c := exec.Command(Bin+name, args...)
	c.Dir = s.Dir
	c.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	if os.Getuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// Lend says where the server is, for Borrow in another process.
func (s *Server) Lend() string { return s.Addr.String() + " " + s.Dir }

// Borrow returns a server that another process has started, and will stop.
func Borrow(lent string) (*Server, error) {
	addr, dir, _ := strings.Cut(lent, " ")
	a, err := netip.ParseAddrPort(addr)
	return &Server{Dir: dir, Addr: a}, err
}

// DSN is a connection string for user, on the socket.
func (s *Server) DSN(user string) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=postgres", s.Dir, s.Addr.Port(), user)
}

// Exec runs statements as the superuser.
func (s *Server) Exec(ctx context.Context, sql string) error {
	c, err := pgconn.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	_, err = c.Exec(ctx, sql).ReadAll()
	return err
}

// Log returns the server's log so far.
func (s *Server) Log() string {
	b, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
	return string(b)
}

// Stop ends the server and removes its folder.
func (s *Server) Stop() {
	_ = s.run("pg_ctl", "-D", s.data, "-m", "immediate", "-w", "stop")
	os.RemoveAll(s.Dir)
}

// Authenticate puts lines before those of pg_hba.conf, until the returned
// function is called.
func (s *Server) Authenticate(lines string) (undo func(), err error) {
	name := filepath.Join(s.data, "pg_hba.conf")
	before, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	set := func(b []byte) error {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			return err
		}
		return s.run("pg_ctl", "-D", s.data, "reload")
	}
	return func() { _ = set(before) }, set(append([]byte(lines), before...))
}
