package definition

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResolve(t *testing.T) {
	environment := func(name string) (string, bool) {
		v, ok := map[string]string{"ADDR": "r:1", "ADDRS": "r:1, r:2", "USER": "anna", "EMPTY": "", "DIR": "/run", "_p1": "pw"}[name]
		return v, ok
	}
	c := &Connector{
		Name: "${USER}", Type: "redis",
		Addrs: []string{"${ADDRS}", "x:9", "${NONE:y:1,y:2}"}, Key: "${EMPTY:not this}_${NONE:}", Params: map[string]string{"a": "$${USER}", "b": "p$a${_p1}$"},
		Username: "${USER}", PasswordFile: "${DIR}/pass", TLS: true, Replicas: 1, Save: []string{"${USER}"},
	}
	before := *c
	got, err := c.Resolve(environment)
	if err != nil {
		t.Fatal(err)
	}
	want := &Connector{
		Name: "${USER}", Type: "redis",
		Addrs: []string{"r:1", "r:2", "x:9", "y:1", "y:2"}, Key: "_", Params: map[string]string{"a": "${USER}", "b": "p$apw$"},
		Username: "anna", PasswordFile: "/run/pass", TLS: true, Replicas: 1, Save: []string{"${USER}"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&before, c); diff != "" {
		t.Errorf("Resolve changed the connector itself: %s", diff)
	}
}

func TestResolveMistakes(t *testing.T) {
	c := &Connector{
		Name: "C", Addrs: []string{"${A}", "${B}:${C}"}, Params: map[string]string{"y": "${Y}", "x": "${X"},
		Document: Document{Kind: KindConn, Name: "C", Path: "conf/c.yml"},
	}
	_, err := c.Resolve(func(name string) (string, bool) { return "", name == "A" })
	wantText(t, err, `BAD_DOCUMENT: conf/c.yml: addrs: needs B and C, which the environment here does not have: set it, or write a default as ${NAME:default}
conf/c.yml: params.x: has a ${ without its }: a literal ${ is written $${
conf/c.yml: params.y: needs Y, which the environment here does not have: set it, or write a default as ${NAME:default}`)
}
