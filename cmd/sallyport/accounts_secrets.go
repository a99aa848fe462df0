package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/protocols/postgres"
)

// readSecrets reads the files of accounts and of TLS with NATS, by the names that the
// configuration has for them.
func readSecrets(cfg *config.Config) (map[string][]byte, error) {
	out := map[string][]byte{}
	var errs []error
	for _, f := range cfg.SecretFiles() {
		path, err := f.Where(os.Getenv)
		if err == nil && f.Name == cfg.Evidence.NATS.TLS.Key {
			err = jetstream.KeyFile(path)
		}
		if err == nil {
			out[f.Name], err = readFile(path, maxSecret)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.At, err))
		}
	}
	return out, errors.Join(errs...)
}

// checkSecrets says what can be said of them before they are in force, and
// returns who vouches for Vault.
func checkSecrets(cfg *config.Config, files map[string][]byte) (roots *x509.CertPool, err error) {
	var errs []error
	for i := range cfg.Resources {
		for k, a := range cfg.Resources[i].Agents {
			if err := postgres.CheckVerifier(a.Verifier); err != nil {
				errs = append(errs, fmt.Errorf("%s: verifier: %w", cfg.At("resources", i, "agents", k, "verifier"), err))
			}
		}
		for k, a := range cfg.Resources[i].Accounts {
			var err error
			switch {
			case a.PasswordFile != "" && len(bytes.TrimRight(files[a.PasswordFile], "\r\n")) == 0:
				err = fmt.Errorf("%s: it is empty", a.PasswordFile)
			case a.Certificate != nil:
				if _, err = tls.X509KeyPair(files[a.Certificate.Certificate], files[a.Certificate.Key]); err != nil {
					err = fmt.Errorf("certificate %s with key %s: %w", a.Certificate.Certificate, a.Certificate.Key, err)
				}
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", cfg.At("resources", i, "accounts", k), err))
			}
		}
	}
	cfg.Evidence.NATS.TLS.CheckFiles(func(name string) ([]byte, error) { return files[name], nil }, func(why string, at ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", cfg.At(append([]any{"evidence", "nats", "tls"}, at...)...), why))
	})
	if v := cfg.Vault; v != nil && v.CA != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(files[v.CA]) {
			errs = append(errs, fmt.Errorf("%s: %s: no certificate in PEM form", cfg.At("vault", "ca"), v.CA))
		}
	}
	return roots, errors.Join(errs...)
}

// takeSecrets gives the setting's secrets away: there is one copy.
func (s *setting) takeSecrets() map[string][]byte {
	out := s.secrets
	s.secrets = nil
	return out
}

// The daemon may ask for the files of accounts again, when a server refuses
// what stood in one: secrets are changed without a reload.

const (
	// secretsTime is what the loader has for its answer.
	secretsTime = 5 * time.Second
	// secretsEvery is the least time between two answers: who asks reads what
	// hostile agents send.
	secretsEvery = 500 * time.Millisecond
)

// secretsRead is the loader's answer.
type secretsRead struct {
	Files map[string][]byte
	Err   string
}

// rereadSecrets reads the files again for the daemon.
func (l *loader) rereadSecrets() {
	if l.stopping || !l.serving || time.Since(l.reread) < secretsEvery {
		return
	}
	l.reread = time.Now()
	var say secretsRead
	files, err := readSecrets(l.cfg)
	if err != nil {
		l.log.Error("the files of accounts and of NATS can't be read again: the old ones stay", "error", err)
		say.Err = err.Error()
	} else {
		say.Files = files
	}
	f, err := sealed("secrets", say)
	wipe(files)
	if err == nil {
		err = l.line.order(doSecrets, "", int(f.Fd()))
		f.Close()
	}
	if err != nil {
		l.log.Error("the daemon can't be given the secrets of accounts", "error", err)
	}
}

func wipe(files map[string][]byte) {
	for _, b := range files {
		clear(b)
	}
}

// askSecrets has the loader read the files again, and waits until that is done.
func (d *daemon) askSecrets(ctx context.Context) error {
	select {
	case <-d.secretsRead: // an answer that came too late for who asked
	default:
	}
	if err := d.line.answer(verdict{To: doSecrets}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, secretsTime)
	defer cancel()
	select {
	case err := <-d.secretsRead:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the loader does not answer: %w", ctx.Err())
	}
}

// learnSecrets takes in what the loader has read.
func (d *daemon) learnSecrets(fd int) error {
	f := os.NewFile(uintptr(fd), "secrets")
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxBundle))
	defer clear(data)
	var said secretsRead
	if err == nil {
		err = json.Unmarshal(data, &said)
	}
	if err != nil {
		return fmt.Errorf("order %s: %w", doSecrets, err)
	}
	var answer error
	if said.Err != "" {
		answer = errors.New(said.Err)
	} else {
		d.brokers.store.Replace(said.Files)
	}
	select {
	case d.secretsRead <- answer:
	default: // nobody waits
	}
	return nil
}

// accountFailed tells of what went wrong behind the back of sessions.
func (d *daemon) accountFailed(err error) { d.alarms.raise("account", err.Error()) }

// closeBrokers gives back what Vault has lent.
func (d *daemon) closeBrokers() {
	ctx, cancel := context.WithTimeout(context.Background(), secretsTime)
	defer cancel()
	d.brokers.close(ctx)
}
