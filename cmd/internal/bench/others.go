package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

// other is a program between that others have made, or could have.
type other struct {
	name string
	port int
	cmd  *exec.Cmd
}

// begin starts a plain relay, and what else is installed of what stands between
// clients and a server elsewhere.
func (b *bench) begin(ctx context.Context, s *stand.Stand) error {
	dir := filepath.Join(s.Dir, "others")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, o := range []struct {
		name, program string
		config        string // the name of its file, "" for none
		text          func(port int) string
		args          func(port int, config string) []string
	}{
		{name: "plain relay", program: filepath.Join(s.Bin, "bench"), args: func(port int, _ string) []string {
			return []string{"relay", fmt.Sprintf("127.0.0.1:%d", port), s.PG.Addr.String()}
		}},
		{
			name: "pgbouncer", program: "pgbouncer", config: "pgbouncer.ini",
			// Each client has a server connection of its own, as through the others.
			text: func(port int) string {
				return fmt.Sprintf(`[databases]
%s = host=%s port=%d user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = session
max_client_conn = 1000
default_pool_size = 1000
server_reset_query =
log_connections = 0
log_disconnections = 0
`, s.PG.Database, s.PG.Addr.Addr(), s.PG.Addr.Port(), s.PG.User, s.PG.Password, port)
			},
			args: func(_ int, config string) []string { return []string{"-q", "-u", "nobody", config} },
		},
		{
			name: "haproxy", program: "haproxy", config: "haproxy.cfg",
			text: func(port int) string {
				return fmt.Sprintf(`global
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend in
  bind 127.0.0.1:%d
  default_backend out
backend out
  server db %s
`, port, s.PG.Addr)
			},
			args: func(_ int, config string) []string { return []string{"-db", "-q", "-f", config} },
		},
	} {
		program, err := exec.LookPath(o.program)
		if errors.Is(err, exec.ErrNotFound) {
			fmt.Fprintf(os.Stderr, "%s is not installed, and left out: .ci/deps bench installs it\n", o.name)
			continue
		}
		if err != nil {
			return err
		}
		port, err := free()
		if err != nil {
			return err
		}
		config := filepath.Join(dir, o.config)
		if o.config != "" {
			// It holds the password of this stand's server, which is gone with it.
			if err := os.WriteFile(config, []byte(o.text(port)), 0o644); err != nil {
				return err
			}
		}
		cmd := s.Command(ctx, program, o.args(port, config)...)
		cmd.Stderr = os.Stderr
		if err := stand.Launch(cmd); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		if err := listens(ctx, port); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		b.others = append(b.others, other{o.name, port, cmd})
	}
	return nil
}

func free() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// listens waits until somebody accepts at a port.
func listens(ctx context.Context, port int) error {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for limit := time.Now().Add(10 * time.Second); ; {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(limit) || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
