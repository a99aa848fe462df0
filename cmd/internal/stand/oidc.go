package stand

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Audience is whom the tokens are for.
const Audience = "sallyport"

// Provider is a real OpenID Connect provider with a client per agent.
type Provider struct {
	Issuer string

	s       *Stand
	as      User
	bin     string
	secrets map[string]string // by client
	proc    *process
}

func (s *Stand) startProvider(ctx context.Context, as User, clients ...string) (*Provider, error) {
	p := &Provider{s: s, as: as, bin: filepath.Join(s.Bin, "oidcop"), secrets: map[string]string{}}
	args := []string{"serve", "--life", "24h"}
	for _, c := range clients {
		p.secrets[c] = rand.Text()
		args = append(args, "--client", c+":"+p.secrets[c])
	}
	var err error
	if p.proc, err = s.launch("oidcop", &as, nil, p.bin, args...); err != nil {
		return nil, err
	}
	return p, p.proc.ready(ctx, 2*time.Minute, func(context.Context) error {
		b, err := os.ReadFile(p.proc.log)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			if url, ok := strings.CutPrefix(line, "ready "); ok && strings.HasSuffix(url, "\n") {
				p.Issuer = strings.TrimSpace(url)
				return nil
			}
		}
		return errors.New("it has not said where it serves")
	})
}

// Token asks the provider for a client's token: by client credentials, or,
// where behalf is not "", by a token exchange that makes client the actor for
// behalf. life 0 is the provider's longest.
func (p *Provider) Token(ctx context.Context, client, behalf string, life time.Duration) ([]byte, error) {
	args := []string{"token", "--issuer", p.Issuer, "--client", client, "--secret", p.secrets[client], "--audience", Audience}
	if behalf != "" {
		args = append(args, "--for", behalf+":"+p.secrets[behalf])
	}
	if life != 0 {
		args = append(args, "--life", life.String())
	}
	b, err := p.s.tool(ctx, &p.as, nil, p.bin, args...)
	if err != nil {
		return nil, fmt.Errorf("token of %s: %w", client, err)
	}
	return b, nil
}

func (p *Provider) stop() error {
	if p == nil {
		return nil
	}
	return p.proc.stop(syscall.SIGTERM, time.Minute)
}
