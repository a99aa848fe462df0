package stand

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// agentNames are the agents of a Stand: agent-a works for alice, and may see
// what the clinic's policy leaves it; agent-b is trusted with everything.
var agentNames = []string{"agent-a", "agent-b"}

// Agent is somebody who is to be guarded: an account of the host, and a token.
type Agent struct {
	Name  string
	User  User
	Token string // file

	s *Stand
}

// startAgents gives every agent its token.
func (s *Stand) startAgents(ctx context.Context) error {
	for _, a := range s.Agents {
		if err := a.Renew(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

// Renew replaces the agent's token by a new one that lives so long; 0 is the
// provider's longest.
func (a Agent) Renew(ctx context.Context, life time.Duration) error {
	behalf := ""
	if a.Name == "agent-a" {
		behalf = "alice"
	}
	token, err := a.s.OIDC.Token(ctx, a.Name, behalf, life)
	if err != nil {
		return err
	}
	// Renamed into its place, so that no reader sees half of it.
	if err := os.WriteFile(a.Token+".new", token, 0o600); err != nil {
		return err
	}
	return os.Rename(a.Token+".new", a.Token)
}

// Guarded prepares a command that an agent runs under sallyport exec, with its
// token. Unmodified clients find the clinic by their environment. Run it with
// Run.
func (s *Stand) Guarded(ctx context.Context, a Agent, argv ...string) *exec.Cmd {
	return s.GuardedAs(ctx, a.User, a.Token, argv...)
}

// GuardedAs is Guarded with any account and token file.
func (s *Stand) GuardedAs(ctx context.Context, u User, token string, argv ...string) *exec.Cmd {
	args := append([]string{"-c", s.Config, "exec", "--token-file", token, "--user", u.String(), "--"}, argv...)
	return s.client(exec.CommandContext(ctx, filepath.Join(s.Bin, "sallyport"), args...), nil)
}

// Direct prepares the same command outside of the guard, as the same account.
func (s *Stand) Direct(ctx context.Context, a Agent, argv ...string) (*exec.Cmd, error) {
	bin, err := s.lookPath(argv[0])
	if err != nil {
		return nil, err
	}
	cmd := s.client(exec.CommandContext(ctx, bin, argv[1:]...), &a.User)
	if s.exempt != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(s.exempt.Fd())
	}
	return cmd, nil
}

// Command prepares one of the stand's own commands, for root: sallyport with
// its configuration, or anything else.
func (s *Stand) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if name == "sallyport" {
		args = append([]string{"-c", s.Config}, args...)
	}
	if bin, err := s.lookPath(name); err == nil {
		name = bin
	}
	return s.client(exec.CommandContext(ctx, name, args...), nil)
}

func (s *Stand) client(cmd *exec.Cmd, as *User) *exec.Cmd {
	confined(cmd, as)
	cmd.Dir, cmd.Env = "/", append(s.environ(), s.PG.environ()...)
	return cmd
}

// lookPath finds a program in the path of what the stand starts.
func (s *Stand) lookPath(name string) (string, error) {
	for _, dir := range filepath.SplitList(s.path()) {
		bin := filepath.Join(dir, name)
		if fi, err := os.Stat(bin); err == nil && fi.Mode()&0o111 != 0 {
			return bin, nil
		}
	}
	return "", fmt.Errorf("%s is not in %s", name, s.path())
}
