package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/privsep"
)

// loginSAML logs a person in at a provider of identity.saml, through the running
// sallyport: it asks, it verifies, and it remembers. What the browser brings is
// kept as a token is.
func (o *loginOptions) loginSAML(ctx context.Context, cmd *cobra.Command, out string) error {
	cfg, err := commandConfig(cmd)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return &exitError{code: 1, err: errors.New("a login by SAML needs root: to ask the running sallyport"), hint: "run it with sudo"}
	}
	i := slices.IndexFunc(cfg.Identity.SAML, func(s config.SAML) bool { return s.Name == o.saml })
	if i < 0 {
		return configError(fmt.Errorf("provider %q is not among identity.saml of %s", o.saml, cfg.Path))
	}
	begun, err := askLogin(ctx, cfg, privsep.Message{Text: o.saml})
	if err != nil {
		return err
	}
	until, err := time.Parse(time.RFC3339, begun[termUntil])
	if err != nil {
		return errors.New("the running sallyport's answer is not understood: it is of another version")
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	raw, err := o.answer(ctx, cmd, cfg.Identity.SAML[i].ACS, begun)
	if err != nil {
		return err
	}
	f, err := memory("response", []byte(raw))
	if err != nil {
		return err
	}
	defer f.Close()
	ended, err := askLogin(ctx, cfg, privsep.Message{Names: []string{"response"}, FDs: []int{int(f.Fd())}})
	if err != nil {
		return err
	}
	if err := keepToken(out, raw); err != nil {
		return fmt.Errorf("keep the login: %w", err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is logged in until %s: %s\n", render.Line(ended[termSubject]), render.Line(ended[termUntil]), render.Line(out))
	return err
}

// askLogin asks the running sallyport.
func askLogin(ctx context.Context, cfg *config.Config, m privsep.Message) (map[string]string, error) {
	t, err := privsep.Call(ctx, controlPath(cfg))
	if err != nil {
		return nil, err
	}
	defer t.Close()
	stop := context.AfterFunc(ctx, func() { t.Close() })
	defer stop()
	m.Do = sayLogin
	if err := t.Send(m); err != nil {
		return nil, err
	}
	said, err := receive(t, sayLogin, loginTime+stepTime)
	if err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	return said.Terms, nil
}

// answer has the person log in, and returns what their browser brings back.
// Where that is comes from the configuration, not from the daemon.
func (o *loginOptions) answer(ctx context.Context, cmd *cobra.Command, acs string, begun map[string]string) (raw string, err error) {
	tell := func(what string) error {
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), "open %s\n%s\n", render.Line(begun[termURL]), what)
		return err
	}
	if o.response != "" {
		if err := tell("and give the field SAMLResponse of what the browser then posts to " + render.Line(acs)); err != nil {
			return "", err
		}
		return readAnswer(ctx, cmd.InOrStdin(), o.response)
	}
	a, err := listenACS(acs, begun[termRelay])
	if err != nil {
		return "", err
	}
	defer a.close()
	if err := tell("in a browser of this machine; it ends here"); err != nil {
		return "", err
	}
	return a.wait(ctx)
}

// readAnswer reads an answer that was copied: a file's, or of - to its end or to
// an empty line. Spaces and line breaks are those of the copying.
func readAnswer(ctx context.Context, in io.Reader, file string) (string, error) {
	if file != "-" {
		b, err := readFile(file, 2*privsep.MaxToken)
		return strings.Join(strings.Fields(string(b)), ""), err
	}
	defer unbuffered(in)()
	read := make(chan string, 1)
	go func() {
		var all strings.Builder
		s := bufio.NewScanner(io.LimitReader(in, 2*privsep.MaxToken))
		s.Buffer(nil, 2*privsep.MaxToken)
		for s.Scan() {
			line := strings.Join(strings.Fields(s.Text()), "")
			if line == "" && all.Len() > 0 {
				break
			}
			all.WriteString(line)
		}
		read <- all.String()
	}()
	select {
	case s := <-read:
		return s, nil
	case <-ctx.Done():
		return "", errors.New("nobody has logged in in time: begin again")
	}
}

// unbuffered has a terminal take lines of any length, which end at 4095 bytes
// otherwise, and not show them. It returns what undoes that.
func unbuffered(in io.Reader) (undo func()) {
	f, ok := in.(*os.File)
	if !ok {
		return func() {}
	}
	was, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return func() {} // no terminal
	}
	now := *was
	now.Lflag &^= unix.ICANON | unix.ECHO
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
	_ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &now)
	return func() { _ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, was) }
}

// memory is a file that nobody else can read.
func memory(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("sallyport", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, fmt.Errorf("memory file: %w", err)
	}
	return f, nil
}
