package redis_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/redis"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// A function that needs more than Save and Load gets go-redis's client. Here it counts visitors, each of them once: a set keeps
// that right also when the row runs again.
func ExampleClient() {
	type visit struct {
		Page    string `json:"page"`
		Visitor string `json:"visitor"`
	}
	type count struct {
		Page     string `json:"page"`
		Visitors int64  `json:"visitors"`
	}
	visitors := func(ctx context.Context, v visit) (count, error) {
		conn, err := kis.From(ctx).Connection()
		if err != nil {
			return count{}, err
		}
		client, err := redis.Client(conn)
		if err != nil {
			return count{}, err
		}
		key := "visitors_" + v.Page
		if err := client.SAdd(ctx, key, v.Visitor).Err(); err != nil {
			return count{}, err
		}
		n, err := client.SCard(ctx, key).Result()
		return count{v.Page, n}, err
	}

	server, err := miniredis.Run() // a Redis for the example
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	local, err := flow("Visitors", "Calculate", server.Addr(), func(r *kis.Registry) { r.Func("Visitors", kis.Calculate(visitors)) })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer local.Close()
	result, err := local.Submit(context.Background(), "F", batch.Rows(visit{"home", "Ann"}, visit{"home", "Bob"}, visit{"home", "Ann"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range result.Output.Rows.Len() {
		fmt.Printf("%s\n", result.Output.Rows.Row(i))
	}
	// Output:
	// {"page":"home","visitors":1}
	// {"page":"home","visitors":2}
	// {"page":"home","visitors":2}
}

// flow is a flow F of one function with a connector Store to a Redis, in this process.
func flow(function, mode, address string, register func(*kis.Registry)) (*flowexec.Local, error) {
	document := func(kind definition.Kind, yaml string) definition.Document {
		return definition.Document{YAML: []byte("kistype: " + string(kind) + "\n" + yaml)}
	}
	docs := []definition.Document{
		document(definition.KindFlow, "flow_name: F\nstatus: 1\nflows: [{fname: "+function+"}]\n"),
		document(definition.KindFunc, "fname: "+function+"\nfmode: "+mode+"\noption: {cname: Store}\n"),
		document(definition.KindConn, "cname: Store\ntype: redis\naddrs: \""+address+"\"\n"),
	}
	set, err := definition.NewSet(docs)
	if err != nil {
		return nil, err
	}
	return flowexec.NewLocalSet(set, register, flowexec.WithOpeners(map[string]connector.Opener{"redis": redis.Open}))
}
