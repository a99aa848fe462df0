// Package baotest runs the OpenBao development server of tools/openbao for
// tests.
package baotest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// Server is a running server.
type Server struct {
	Address string `json:"address"` // http://127.0.0.1:port
	Token   string `json:"token"`   // root's
}

var build = sync.OnceValues(func() (string, error) {
	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "../../..")
	bin := filepath.Join(root, ".cache/openbao")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	// As .ci/deps does it: Go's cache knows what it has built.
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin+"/", ".")
	cmd.Dir = filepath.Join(root, "tools/openbao")
	cmd.Stderr = os.Stderr
	return filepath.Join(bin, "openbao"), cmd.Run()
})

// Start starts a server. It ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it ends with its input
		_ = cmd.Wait()
	})
	s := &Server{}
	if err := json.NewDecoder(out).Decode(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// Write has root write to a path, and returns the answer's data.
func (s *Server) Write(t testing.TB, path string, data map[string]any) map[string]any {
	t.Helper()
	return s.call(t, http.MethodPost, path, data)
}

// Read returns the data at a path.
func (s *Server) Read(t testing.TB, path string) map[string]any {
	t.Helper()
	return s.call(t, http.MethodGet, path, nil)
}

// List returns the keys below a path.
func (s *Server) List(t testing.TB, path string) (keys []string) {
	t.Helper()
	list, _ := s.call(t, "LIST", path, nil)["keys"].([]any)
	for _, k := range list {
		keys = append(keys, fmt.Sprint(k))
	}
	return keys
}

func (s *Server) call(t testing.TB, method, path string, data map[string]any) map[string]any {
	t.Helper()
	b, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.Address+"/v1/"+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", s.Token)
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err = io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	if a.StatusCode == http.StatusNotFound && method == "LIST" {
		return nil
	}
	if a.StatusCode/100 != 2 {
		t.Fatalf("%s %s: HTTP %d: %s", method, path, a.StatusCode, b)
	}
	var out struct {
		Data map[string]any
		Auth map[string]any
	}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &out); err != nil {
			t.Fatal(err)
		}
	}
	if out.Data == nil {
		return out.Auth
	}
	return out.Data
}

// Database mounts a database secrets engine for a PostgreSQL server, with a role
// "billing" whose accounts are made up and a static role "reports" for the user
// named so. life is of leases, in seconds.
func (s *Server) Database(t testing.TB, url, user, password string, life int) {
	t.Helper()
	s.Write(t, "sys/mounts/database", map[string]any{"type": "database"})
	s.Write(t, "database/config/clinic", map[string]any{
		"plugin_name": "postgresql-database-plugin", "connection_url": url, "username": user, "password": password,
		"allowed_roles": []string{"*"}, "password_authentication": "scram-sha-256",
	})
	s.Write(t, "database/roles/billing", map[string]any{
		"db_name": "clinic", "default_ttl": life, "max_ttl": 10 * life,
		"creation_statements": []string{`CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`},
	})
	s.Write(t, "database/static-roles/reports", map[string]any{"db_name": "clinic", "username": "reports", "rotation_period": 3600})
}
