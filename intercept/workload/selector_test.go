package workload_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept/workload"
)

type (
	selector   = workload.Selector
	container  = workload.Container
	kubernetes = workload.Kubernetes
)

func TestSelectorMatch(t *testing.T) {
	unit := workload.Description{Path: "/agents.slice/agent@1.service/x", Slices: []string{"agents.slice"}, Unit: "agent@1.service"}
	user := workload.Description{
		Path: "/user.slice/user-7.slice/user@7.service/app.slice/agent.service", Slices: []string{"user.slice", "user-7.slice"}, Unit: "user@7.service",
		UserSlices: []string{"app.slice"}, UserUnit: "agent.service",
	}
	web := workload.Description{
		Path: "/docker/1", Container: workload.ContainerState{Runtime: "docker", Name: "web-1", Image: "reg.example/agents/web:2", Labels: map[string]string{"team": "clinic", "empty": ""}},
	}
	pod := workload.Description{
		Path: "/kubepods/x/y", Container: workload.ContainerState{Runtime: "cri-o", Name: "agent"},
		Pod: workload.PodState{Name: "runner-1", Namespace: "agents", ServiceAccount: "runner", Labels: map[string]string{"app": "runner"}},
	}
	for _, c := range []struct {
		s   selector
		yes *workload.Description
		not []*workload.Description // not these
	}{
		{selector{Systemd: "agents.slice"}, &unit, []*workload.Description{&user, &web}},
		{selector{Systemd: "agent@*.service"}, &unit, []*workload.Description{&user}},
		{selector{Systemd: "user-7.slice"}, &user, nil},
		{selector{Systemd: "user@7.service/agent.service"}, &user, []*workload.Description{&unit}},
		{selector{Systemd: "user@*.service/app.slice"}, &user, nil},
		{selector{Systemd: "user@8.service/agent.service"}, nil, []*workload.Description{&user}},
		{selector{Systemd: "agent.service"}, nil, []*workload.Description{&user, &unit}}, // a user's unit is not the system's
		{selector{Cgroup: "/agents.slice/**"}, &unit, []*workload.Description{&user}},
		{selector{Cgroup: "/agents.slice/*"}, nil, []*workload.Description{&unit}},
		{selector{Systemd: "agents.slice", Cgroup: "/agents.slice"}, nil, []*workload.Description{&unit}}, // both must hold
		{selector{Container: &container{Name: "web-*"}}, &web, []*workload.Description{&pod, &unit}},
		{selector{Container: &container{Image: "reg.example/*"}}, nil, []*workload.Description{&web}},
		{selector{Container: &container{Image: "reg.example/**", Labels: map[string]string{"team": "cl?nic", "empty": ""}}}, &web, []*workload.Description{&pod}},
		{selector{Container: &container{Labels: map[string]string{"empty": "*"}}}, &web, nil},
		{selector{Container: &container{Labels: map[string]string{"absent": "*"}}}, nil, []*workload.Description{&web}},
		{selector{Container: &container{Labels: map[string]string{"absent": ""}}}, nil, []*workload.Description{&web}},
		{selector{Container: &container{Labels: map[string]string{"team": ""}}}, nil, []*workload.Description{&web}},
		{selector{Container: &container{Name: "**"}}, &pod, []*workload.Description{&unit, &user}},
		{selector{Kubernetes: &kubernetes{Namespace: "agents"}}, &pod, []*workload.Description{&web, &unit}},
		{selector{Kubernetes: &kubernetes{Namespace: "*", Pod: "runner-*", ServiceAccount: "runner", Labels: map[string]string{"app": "runner"}}}, &pod, []*workload.Description{&web}},
		{selector{Kubernetes: &kubernetes{Namespace: "agents", ServiceAccount: "admin"}}, nil, []*workload.Description{&pod}},
		{selector{Kubernetes: &kubernetes{Namespace: "agents"}, Container: &container{Name: "sidecar"}}, nil, []*workload.Description{&pod}},
	} {
		set, err := workload.Compile([]selector{{Cgroup: "/never"}, c.s})
		if err != nil {
			t.Errorf("%+v: %v", c.s, err)
			continue
		}
		if c.yes != nil {
			if i, ok := set.Match(c.yes); !ok || i != 1 {
				t.Errorf("%+v does not match %s", c.s, c.yes.Path)
			}
		}
		for _, d := range c.not {
			if _, ok := set.Match(d); ok {
				t.Errorf("%+v matches %s", c.s, d.Path)
			}
		}
	}
	if _, ok := (workload.Set{}).Match(&unit); ok {
		t.Error("the zero Set matches")
	}
}

func TestSelectorErrors(t *testing.T) {
	for want, s := range map[string]selector{
		"give at least one of systemd":       {},
		"full name":                          {Systemd: "agent"},
		`"agent@*"`:                          {Systemd: "agent@*"},
		`".slice"`:                           {Systemd: ".slice"},
		`systemd "a/b.service"`:              {Systemd: "a/b.service"},
		`"user@1.service/"`:                  {Systemd: "user@1.service/"},
		`"user@1.service/a.slice/b.service"`: {Systemd: "user@1.service/a.slice/b.service"},
		"below the user's manager":           {Systemd: "x.service/b.service"},
		"starting with /":                    {Cgroup: "a"},
		`"/"`:                                {Cgroup: "/"},
		"write it plainly":                   {Cgroup: "/a/../b"},
		"name: \"**\" selects":               {Container: &container{}},
		"without a name":                     {Container: &container{Labels: map[string]string{"": "x"}}},
		"kubernetes: namespace":              {Kubernetes: &kubernetes{Pod: "x"}},
		"container.image: pattern of":        {Container: &container{Image: strings.Repeat("x", 5000)}},
	} {
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if _, err := workload.Compile([]selector{{Cgroup: "/ok"}, s}); err == nil || !strings.Contains(err.Error(), "selector 1") {
			t.Errorf("%q: %v", want, err)
		}
	}
	for s, want := range map[selector]string{
		{Cgroup: "/a"}: "/a", {Cgroup: "/a*"}: "", {Cgroup: "/a", Systemd: "a.slice"}: "", {}: "",
		{Systemd: "a-b.slice"}: "/a.slice/a-b.slice", {Systemd: "a*.slice"}: "", {Systemd: "-.slice"}: "", {Systemd: "a.service"}: "", {Systemd: "user@1.service/a.slice"}: "",
	} {
		p, ok := s.Path()
		if ok != (want != "") || ok && p != want {
			t.Errorf("%+v: %q %v", s, p, ok)
		}
	}
}
