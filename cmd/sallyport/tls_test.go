package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/tlsport"
)

// serverTLS returns options of a PostgreSQL server with a certificate for "db",
// and the file of who vouches for it.
func serverTLS(t *testing.T) (options, ca string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-tls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a, err := tlsport.NewAuthority("db", tlsport.Permitted{Names: []string{"db"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := a.Sign(k.Public(), "db", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(dir, "ca.pem")
	for name, b := range map[string][]byte{
		ca:                           pemOf(a.Root()),
		filepath.Join(dir, "db.crt"): pemChain(chain),
		filepath.Join(dir, "db.key"): pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(name, pgUID, pgUID); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, pgUID, pgUID); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("-c ssl=on -c ssl_cert_file=%s/db.crt -c ssl_key_file=%s/db.key", dir, dir), ca
}

// children are the loader's processes of a command, by pid.
func (h *host) children(command string) (pids []int) {
	h.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range all {
		b, _ := os.ReadFile(f)
		if args := strings.Split(string(b), "\x00"); len(args) < 2 || args[1] != command {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			h.t.Fatal(err)
		}
		stat, _ := os.ReadFile(filepath.Dir(f) + "/stat")
		if i := strings.LastIndexByte(string(stat), ')'); i > 0 && strings.Fields(string(stat[i+1:]))[1] == strconv.Itoa(h.loader.Process.Pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Both doors in TLS, each verified in full: the agent's by this host's
// authority, whose key nobody but the signer has open.
func TestTLSOnBothDoors(t *testing.T) {
	options, ca := serverTLS(t)
	server, _ := startPostgresWith(t, options)
	h := newHost(t, server)
	h.catalog = ", catalog: {user: postgres}, tls: {server: verify-full, ca: " + ca + ", name: db, agent: require, names: [localhost]}"
	h.more = "authority: {enabled: true}\n"
	h.configure()
	h.serve()
	token := h.token("agent-a")

	at := authorityAt(filepath.Join(h.dir, "state"))
	certificate, key := at.root, at.key
	trusted := filepath.Join(h.dir, "trusted.pem")
	within(t, "an authority", func() bool {
		b, err := os.ReadFile(certificate)
		return err == nil && len(b) > 0 && os.WriteFile(trusted, b, 0o644) == nil
	})
	other := filepath.Join(h.dir, "other.pem")
	if b, err := os.ReadFile(ca); err != nil || os.WriteFile(other, b, 0o644) != nil {
		t.Fatal(err)
	}
	const ask = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
	psql := func(settings string) string {
		t.Helper()
		out, _ := h.agent(token, "psql", "-X", "-A", "-t", "port="+port(server)+" channel_binding=disable "+settings, "-c", ask).CombinedOutput()
		return string(out)
	}
	for settings, want := range map[string]string{
		"host=127.0.0.1 sslmode=verify-full sslrootcert=" + trusted: "t\n",
		"host=localhost sslmode=verify-full sslrootcert=" + trusted: "t\n",
		"host=127.0.0.1 sslmode=verify-full sslrootcert=" + other:   "certificate verify failed",
		"host=127.0.0.1 sslmode=disable":                            "by TLS only",
	} {
		if out := psql(settings); !strings.Contains(out, want) {
			t.Errorf("%s: %q", settings, out)
		}
	}

	if fi, err := os.Stat(key); err != nil || fi.Mode().Perm() != 0o600 || fi.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the key's file: %v, %v", fi, err)
	}
	readOnly := regexp.MustCompile(`(?m)^flags:\s+[0-7]*[04]$`) // open(2): O_RDONLY
	signers := h.children(signerCommand)
	if len(signers) != 1 {
		t.Fatalf("signers: %v", signers)
	}
	for _, pid := range []int{signers[0], h.daemon(), h.loader.Process.Pid} {
		has := false // the signer has read it, and closed it
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			to, _ := os.Readlink(fd)
			has = has || to == key
			info, _ := os.ReadFile(strings.Replace(fd, "/fd/", "/fdinfo/", 1))
			if strings.HasPrefix(to, at.folder+"/") && !readOnly.Match(info) {
				t.Errorf("process %d can write %s", pid, to)
			}
		}
		if has || len(fds) == 0 {
			t.Errorf("process %d has the key open: %v", pid, has)
		}
	}

	// What the signer presented holds without it, and it comes back.
	if err := syscall.Kill(signers[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if out := psql("host=127.0.0.1 sslmode=verify-full sslrootcert=" + trusted); out != "t\n" {
		t.Error(out)
	}
	within(t, "another signer", func() bool { again := h.children(signerCommand); return len(again) == 1 && again[0] != signers[0] })
	// It signs what a reload has brought, and has the same key.
	h.catalog = strings.Replace(h.catalog, "[localhost]", "[localhost, ip6-localhost]", 1)
	h.configure()
	h.reload("msg=reloaded process=loader")
	if out := psql("host=ip6-localhost hostaddr=127.0.0.1 sslmode=verify-full sslrootcert=" + trusted); !strings.Contains(out, "certificate verify failed") && !strings.Contains(out, "SSL error") {
		// The authority was made before that name: it may not sign for it.
		t.Error(out)
	}

	// A server that can't prove who it is gets nothing, not even the catalog's role.
	h.catalog = strings.Replace(h.catalog, "name: db", "name: other", 1)
	h.configure()
	h.reload("msg=reloaded process=loader")
	if out := psql("host=127.0.0.1 sslmode=verify-full sslrootcert=" + trusted); !strings.Contains(out, "did not prove who it is") {
		t.Error(out)
	}
	h.stop()
}
