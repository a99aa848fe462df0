package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/identity/oidc"
)

func init() { commands = append(commands, loginCmd) }

// loginOptions are the flags of login.
type loginOptions struct {
	issuer, client, audience, out string
	saml, response                string
	algorithms, scopes            []string
}

func loginCmd() *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login {--issuer URL --client ID | --saml NAME}",
		Short: "Log a person in, and keep what says so",
		Long: `Logs a person in by device code: it prints an address, where they approve the
log-in in a browser, anywhere, and waits. Their token is verified as the passage
would and kept in a file that nobody else can read, for
sallyport exec --token-file. A passage takes it from a workload whose subjects
name the person.

It needs no privilege, no configuration and no running sallyport. Log in again
when the token has expired; removing the file logs out.

With --saml it is a provider of identity.saml, by its name: it prints an address
for a browser of this machine, which brings the answer back, and the running
sallyport verifies that, once. For another machine's browser, --response takes the
answer from a file or, with -, as it is pasted. The file is for
sallyport exec --for alone. This needs root and a running sallyport.`,
		Example: `  sallyport login --issuer https://login.example.com --client sallyport-people
  sudo sallyport exec --token-file ~/.local/state/sallyport/token --user "$USER" -- psql -h db.example
  sudo sallyport login --saml clinic --out /run/alice.login`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return o.login(ctx, cmd)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.issuer, "issuer", "", "URL of the issuer, as in identity.issuers")
	f.StringVar(&o.client, "client", "", "client of people's programs at the issuer")
	f.StringVar(&o.audience, "audience", "sallyport", "audience of the token, as in identity.issuers")
	f.StringSliceVar(&o.algorithms, "algorithm", []string{"RS256", "ES256"}, "of its signature; repeat")
	f.StringSliceVar(&o.scopes, "scope", nil, "that is asked for; repeat")
	f.StringVar(&o.saml, "saml", "", "name of the provider, as in identity.saml")
	f.StringVar(&o.response, "response", "", "file with the answer of a browser elsewhere, or - to paste it")
	f.StringVar(&o.out, "out", "", "file of the token (default: sallyport/token in $XDG_STATE_HOME or ~/.local/state)")
	_ = cmd.MarkFlagFilename("out")
	_ = cmd.MarkFlagFilename("response")
	return cmd
}

func (o *loginOptions) login(ctx context.Context, cmd *cobra.Command) error {
	switch {
	case o.saml != "" && (o.issuer != "" || o.client != ""):
		return configError(errors.New("log in at one of both: --saml, or --issuer and --client"))
	case o.saml == "" && (o.issuer == "" || o.client == ""):
		return configError(errors.New("name the issuer and the client (--issuer, --client), or a provider (--saml)"))
	case o.saml == "" && o.response != "":
		return configError(errors.New("--response is for --saml"))
	}
	out := o.out
	if out == "" {
		var err error
		if out, err = tokenPlace(); err != nil {
			return err
		}
	}
	if o.saml != "" {
		return o.loginSAML(ctx, cmd, out)
	}
	is := oidc.Issuer{URL: o.issuer, Audience: o.audience, Algorithms: o.algorithms, Skew: 30 * time.Second}
	v, err := oidc.New([]oidc.Issuer{is}, time.Now)
	if err != nil {
		return configError(err)
	}
	l := oidc.Login{Client: o.client, Scopes: o.scopes, Tell: func(uri, code string) error {
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), "open %s\nand see that it shows %s\n", render.Line(uri), render.Line(code))
		return err
	}}
	raw, tok, err := l.Token(ctx, is, v)
	if err != nil {
		return err
	}
	if err := keepToken(out, raw); err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is logged in until %s: %s\n", render.Line(tok.Subject), tok.Expires.Local().Format(time.RFC3339), render.Line(out))
	return err
}

// tokenPlace is where a person's token is kept (XDG Base Directory
// Specification 0.8).
func tokenPlace() (string, error) {
	home, err := os.UserHomeDir()
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) && err != nil {
		return "", fmt.Errorf("where to keep the token: %w: name a file with --out", err)
	}
	if !filepath.IsAbs(state) {
		state = filepath.Join(home, ".local/state")
	}
	return filepath.Join(state, "sallyport", "token"), nil
}

// keepToken replaces a file as a whole; nobody else can read it at any time.
func keepToken(path, token string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".token-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already, unless something failed
	_, err = f.WriteString(token + "\n")
	if err = cmp.Or(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
