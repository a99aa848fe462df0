package postgrestest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// UseTLS has the server offer TLS with a certificate and its key (PEM), and puts
// lines before those of its pg_hba.conf.
func (s *Server) UseTLS(certificate, key []byte, hba string) error {
	access, err := os.ReadFile(filepath.Join(s.data, "pg_hba.conf"))
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		text []byte
	}{
		{"server.crt", certificate}, {"server.key", key}, {"pg_hba.conf", append([]byte(hba+"\n"), access...)},
	} {
		name := filepath.Join(s.data, f.name)
		if err := os.WriteFile(name, f.text, 0o600); err != nil {
			return err
		}
		if os.Getuid() == 0 {
			if err := os.Chown(name, nobody, nobody); err != nil {
				return err
			}
		}
	}
	for _, sql := range []string{"ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"} {
		if err := s.Exec(context.Background(), sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
