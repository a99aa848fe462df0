package stand

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/intercept/redirect"
)

// Names in the configuration.
const (
	Host       = "stand"           // of the interceptor
	Resource   = "clinic"          // the PostgreSQL server
	DemoCgroup = "/sallyport-demo" // covered in cgroup mode
)

// configure writes what sallyport reads: configuration, policy, the password
// of its catalog account and the recorder's public key.
func (s *Stand) configure(ctx context.Context) error {
	pub, err := s.tool(ctx, &s.users.recorder, nil, filepath.Join(s.Bin, "sallyport-recorder"), "key", "--key", filepath.Join(s.Store, "recorder.key"))
	if err != nil {
		return err
	}
	password, key, subjects := filepath.Join(s.Dir, "catalog.password"), filepath.Join(s.Dir, "recorder.pub"), filepath.Join(s.Dir, "subjects.key")
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	if err := errors.Join(give(password, User{}, []byte(s.PG.catalog+"\n")), give(subjects, User{}, []byte(hex.EncodeToString(secret))), os.WriteFile(key, pub, 0o644), s.WritePolicy(s.o.Policy)); err != nil {
		return err
	}
	var ports [3]uint16
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return err
		}
	}
	s.Cfg = &config.Config{
		Host: Host, State: filepath.Join(s.Dir, "state"), Run: filepath.Join(s.Dir, "run"), User: s.users.daemon.String(),
		Metrics: loopback(ports[0]), Policy: filepath.Join(s.Dir, "policy.yaml"),
		Log:          config.Log{Level: "info", Format: "text"},
		Interception: config.Interception{Mode: s.o.Mode, Port: ports[1], Pins: filepath.Join(s.Dir, "bpf", "sallyport")},
		Resources: []config.Resource{{
			Name: Resource, Protocol: "postgres", Addresses: []config.Address{config.Endpoint(s.PG.Addr)},
			Catalog: &config.Catalog{User: "sallyport_catalog", PasswordFile: password},
		}},
		Identity: config.Identity{Issuers: []config.Issuer{{URL: s.OIDC.Issuer, Audience: Audience, Skew: time.Second}}},
		Limits:   config.Limits{Sessions: 5000, Drain: 5 * time.Second},
		Evidence: config.Evidence{Recorder: key, SubjectKeyFile: subjects, NATS: config.NATS{Listen: loopback(ports[2])}},
	}
	if s.o.Mode == "host" {
		s.Cfg.Interception.Exempt = config.ExemptPaths(exemptCgroup)
	} else {
		s.Cfg.Interception.Cgroups = []string{DemoCgroup}
	}
	for _, name := range agentNames {
		uid := s.Agents[name].User.UID
		s.Cfg.Identity.Workloads = append(s.Cfg.Identity.Workloads, config.Workload{
			Name: name, Match: config.Match{Cgroup: "/sallyport.guarded/**", UID: &uid}, Subjects: []string{name},
		})
	}
	if s.o.Configure != nil {
		s.o.Configure(s.Cfg)
	}
	return s.WriteConfig()
}

func loopback(port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()
}

// WriteConfig writes Cfg to its file.
func (s *Stand) WriteConfig() error {
	b, err := yaml.Marshal(s.Cfg)
	if err != nil {
		return err
	}
	return os.WriteFile(s.Config, b, 0o644)
}

// WritePolicy replaces the policy file.
func (s *Stand) WritePolicy(b []byte) error {
	return os.WriteFile(filepath.Join(s.Dir, "policy.yaml"), b, 0o644)
}

// StartSallyport starts the loader, which starts the daemon, and returns when
// sallyport says that it serves and the kernel agrees.
func (s *Stand) StartSallyport(ctx context.Context) error {
	if err := s.loader.gone(time.Minute); err != nil {
		return err
	}
	s.notices.ready.Store(false)
	p, err := s.launch("sallyport", nil, []string{"NOTIFY_SOCKET=" + s.notifySocket()}, filepath.Join(s.Bin, "sallyport"), "-c", s.Config, "run")
	if err != nil {
		return err
	}
	s.loader = p
	if err := p.ready(ctx, 2*time.Minute, func(context.Context) error { return s.notices.said() }); err != nil {
		return err
	}
	_, err = s.DaemonPID()
	return err
}

// DaemonPID asks the kernel which daemon it exempts.
func (s *Stand) DaemonPID() (int, error) {
	st, err := redirect.GetStatus(s.Cfg.Interception.Pins)
	switch {
	case err != nil:
		return 0, err
	case !st.Up:
		return 0, errors.New("the guard is broken")
	case !st.Daemon || st.Listening == 0:
		return 0, errors.New("no daemon")
	}
	return int(st.DaemonPID), nil
}

// KillDaemon kills the daemon as nothing else could: it has no last word. The
// loader ends with it.
func (s *Stand) KillDaemon() error {
	pid, err := s.DaemonPID()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	return s.loader.gone(time.Minute)
}

// StopSallyport ends the loader and the daemon in order; the guard stays.
func (s *Stand) StopSallyport() error { return s.loader.stop(syscall.SIGTERM, time.Minute) }

// KillSallyport kills the loader, and the daemon with it.
func (s *Stand) KillSallyport() error { return s.loader.stop(syscall.SIGKILL, time.Minute) }

// Reload makes sallyport read its configuration and its policy again.
func (s *Stand) Reload() error { return s.loader.cmd.Process.Signal(syscall.SIGHUP) }

// Log returns what sallyport has logged.
func (s *Stand) Log() (string, error) {
	b, err := os.ReadFile(filepath.Join(s.Dir, "log", "sallyport.log"))
	return string(b), err
}

// NATS returns the address of the embedded server, or of the configured one.
func (s *Stand) NATS() string {
	if url := s.Cfg.Evidence.NATS.URL; url != "" {
		return url
	}
	return "nats://" + s.Cfg.Evidence.NATS.Listen
}

// Seed returns the nkey seed file of a role of the embedded NATS server.
func (s *Stand) Seed(role string) string {
	return jetstream.SeedFile(filepath.Join(s.Cfg.State, "nats"), role)
}

// StartRecorder starts the recorder, with the key of its role in a file of its
// own account's.
func (s *Stand) StartRecorder(ctx context.Context) error {
	if s.recorder.running() {
		return errors.New("the recorder runs already")
	}
	seed := filepath.Join(s.Store, jetstream.RoleRecorder+".nk")
	if _, err := os.Stat(seed); err != nil {
		b, err := os.ReadFile(s.Seed(jetstream.RoleRecorder))
		if err != nil {
			return fmt.Errorf("the recorder's key to NATS: %w", err)
		}
		if err := give(seed, s.users.recorder, b); err != nil {
			return err
		}
	}
	p, err := s.launch("recorder", &s.users.recorder, nil, filepath.Join(s.Bin, "sallyport-recorder"), "run", "--store", s.Store, "--nats", s.NATS(), "--nkey", seed)
	if err != nil {
		return err
	}
	s.recorder = p
	from := int64(0)
	return p.ready(ctx, 2*time.Minute, func(context.Context) error {
		b, err := os.ReadFile(p.log)
		if err == nil && !strings.Contains(string(b[from:]), "msg=recording ") {
			err = errors.New("it does not record yet")
		}
		return err
	})
}

// StopRecorder ends the recorder; what happens meanwhile waits for it.
func (s *Stand) StopRecorder() error { return s.recorder.stop(syscall.SIGTERM, time.Minute) }

// KillRecorder kills the recorder.
func (s *Stand) KillRecorder() error { return s.recorder.stop(syscall.SIGKILL, time.Minute) }
