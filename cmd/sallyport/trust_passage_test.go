package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/tlsport"
)

const jdbcClient = `import java.sql.*;
public class Ask {
	public static void main(String[] a) throws Exception {
		var p = new java.util.Properties();
		p.setProperty("user", "postgres");
		try (var c = DriverManager.getConnection(a[0], p); var r = c.createStatement().executeQuery("SELECT 'in'")) {
			r.next();
			System.out.println(r.getString(1));
		} catch (SQLException e) {
			for (Throwable t = e; t != null; t = t.getCause()) System.out.println(t.getMessage());
		}
	}
}`

// Real clients get in through the passage, verified in full, by what trust
// install writes and docs/tls.md names; the record and the probe tell of it; and
// another authority takes over without anybody being shut out.
func TestTrustThroughThePassage(t *testing.T) {
	classes := t.TempDir()
	javac(t, classes, "Ask", jdbcClient)
	if err := os.Chmod(classes, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(classes), 0o755); err != nil {
		t.Fatal(err)
	}
	server := startPostgres(t)
	h := newHost(t, server)
	h.catalog = ", catalog: {user: postgres}, tls: {names: [localhost]}"
	h.more = "authority: {enabled: true}\n"
	h.configure()
	h.serve()
	token := h.token("agent-a")

	certificate := authorityAt(filepath.Join(h.dir, "state")).root
	within(t, "an authority", func() bool { b, err := os.ReadFile(certificate); return err == nil && len(b) > 0 })
	sallyport := func(args ...string) string {
		t.Helper()
		out, err := command(append(args, "-c", h.config)...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
		return out
	}
	// What install writes for whoever is told a file's name.
	trusted := filepath.Join(h.dir, "trusted.pem")
	cs := certificates(parseAll([]byte(sallyport("trust", "show", "--pem", "--root", h.dir))))
	install := func(cs certificates) {
		t.Helper()
		if err := os.WriteFile(trusted, cs.pem(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	install(cs)
	first := filepath.Join(h.dir, "first.pem")
	if err := os.WriteFile(first, cs.pem(), 0o644); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(h.dir, "other.pem")
	another, err := tlsport.NewAuthority("another", tlsport.Permitted{}, cs[0].NotBefore)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, pemOf(another.Root()), 0o644); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(h.dir, "store.p12")
	if out, err := exec.Command("keytool", "-importcert", "-noprompt", "-alias", "sallyport", "-file", trusted, "-keystore", store, "-storepass", "changeit").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(store, 0o644); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) string {
		out, _ := h.agent(token, args...).CombinedOutput()
		return string(out)
	}
	jdbc := func(name, settings string, options ...string) string {
		args := append(append([]string{"java"}, options...), "-cp", classes+":/usr/share/java/postgresql.jar", "Ask")
		return ask(append(args, "jdbc:postgresql://"+name+":"+port(server)+"/postgres?"+settings)...)
	}
	psql := func(settings string) string {
		return ask("psql", "-X", "-At", "port="+port(server)+" "+settings, "-c", "SELECT 'in'")
	}
	for name, got := range map[string]string{
		"pgjdbc, sslrootcert":       jdbc("localhost", "sslmode=verify-full&sslrootcert="+trusted),
		"pgjdbc, address":           jdbc("127.0.0.1", "sslmode=verify-full&sslrootcert="+trusted),
		"pgjdbc, Java's own store":  jdbc("localhost", "sslmode=verify-full&sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory", "-Djavax.net.ssl.trustStore="+store, "-Djavax.net.ssl.trustStorePassword=changeit"),
		"psql, sslrootcert":         psql("host=localhost sslmode=verify-full sslrootcert=" + trusted),
		"psql, which asks for none": psql("host=127.0.0.1 sslmode=disable"),
	} {
		if !strings.HasSuffix(got, "in\n") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := jdbc("localhost", "sslmode=verify-full&sslrootcert="+other); !strings.Contains(got, "PKIX path") || strings.Contains(got, "in\n") {
		t.Errorf("pgjdbc that trusts another: %s", got)
	}

	// What they show to every server that asks is refused here, natively.
	home := filepath.Join(h.dir, "home")
	shown, shownKey := selfSigned(t, "billing", x509.ExtKeyUsageClientAuth)
	for name, b := range map[string][]byte{"postgresql.crt": shown, "postgresql.key": shownKey, "postgresql.pk8": parsePEM(t, shownKey)} {
		name = filepath.Join(home, ".postgresql", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o600), os.Chown(name, agentUID, agentUID)); err != nil {
			t.Fatal(err)
		}
	}
	for name, got := range map[string]string{
		"libpq":  ask("env", "HOME="+home, "psql", "-X", "-At", "port="+port(server)+" host=localhost sslmode=verify-full sslrootcert="+trusted, "-c", "SELECT 'in'"),
		"pgjdbc": jdbc("localhost", "sslmode=verify-full&sslrootcert="+trusted, "-Duser.home="+home),
	} {
		if !strings.Contains(got, "a client certificate ends here") || strings.Contains(got, "in\n") {
			t.Errorf("%s with a certificate: %s", name, got)
		}
	}

	// A process that stays is known by its handshake.
	s := h.shell(token)
	if out, errs := s.run("SELECT 1"); out != "1\n" {
		t.Errorf("%s%s", out, errs)
	}
	if p, ok := probeOf(t, h.config, s.cmd.Process.Pid); !ok || p.Verdict != trusts || !p.Seen || p.Runtime != "libpq" {
		t.Errorf("%+v", p)
	}
	s.in.Close()

	// Another authority: the one that runs goes on with the old key; started again
	// it has the new one; agents that have both are never shut out.
	sallyport("trust", "renew", "--yes")
	cs = append(parseAll([]byte(sallyport("trust", "show", "--pem", "--root", h.dir))), cs...)
	second := filepath.Join(h.dir, "second.pem")
	if err := os.WriteFile(second, cs[:1].pem(), 0o644); err != nil {
		t.Fatal(err)
	}
	install(cs)
	verify := func(step string, want map[string]bool) {
		t.Helper()
		for file, ok := range want {
			if out := psql("host=localhost sslmode=verify-full sslrootcert=" + file); (out == "in\n") != ok {
				t.Errorf("%s, %s: %s", step, filepath.Base(file), out)
			}
		}
	}
	verify("renewed", map[string]bool{trusted: true, first: true, second: false})
	h.stop()
	h.serve()
	verify("started again", map[string]bool{trusted: true, first: false, second: true})
	h.stop()

	var version, clear, refused int
	for _, e := range h.record() {
		switch {
		case e.Kind == events.SessionOpen.String() && e.ClientClear:
			clear++
		case e.Kind == events.SessionOpen.String() && e.ClientTLS.Version == "1.3" && e.ClientTLS.Cipher != "":
			version++
		case e.Kind == events.Login.String() && strings.Contains(strings.Join(e.Rules, " "), "tls"):
			refused++
		}
	}
	if version < 9 || clear != 1 || refused < 3 {
		t.Errorf("%d sessions by TLS, %d in clear, %d refused", version, clear, refused)
	}
}

func probeOf(t *testing.T, config string, pid int) (probed, bool) {
	t.Helper()
	h := trustHost{t: t, config: config}
	p, ok := h.probe()[pid]
	return p, ok
}

// parsePEM returns the one block of a text.
func parsePEM(t *testing.T, text []byte) []byte {
	t.Helper()
	b, _ := pem.Decode(text)
	if b == nil {
		t.Fatal("no block")
	}
	return b.Bytes
}
