// Package k8s runs KisGrid on a real Kubernetes. Under load it does to the cluster what operators and accidents do, such as deleting
// pods and draining nodes. Then it compares the answers that the client got with the traces that the rows have left in Redis. It does
// everything with kubectl.
//
// The cluster must be one that may be broken: the tests drain nodes, and kill them where -k8s.kill-node says how. make e2e-k8s loads
// the images into it first.
package k8s

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/authority"
)

var (
	kubeconfigFlag = flag.String("kubeconfig", "", "`file` that leads to a cluster that may be broken; without it the tests are skipped")
	volumesFlag    = flag.String("k8s.volumes", "", "`folder` of every node for volumes, where the cluster provides none; it is emptied")
	killFlag       = flag.String("k8s.kill-node", "", "shell `command` that kills the node called $NODE, of which three are there")
	rateFlag       = flag.Int("k8s.rate", 2000, "rows a second")
	waveFlag       = flag.Duration("k8s.wave", 0, "length of one of five waves of load for the autoscaler; 0: none")
)

const (
	namespace = "kisgrid"
	// nobody is the user that the pods run as.
	nobody = 65532
	// patience is the longest that a test waits for one change of the cluster.
	patience = 5 * time.Minute
)

// Report says how the rows of a round of load ended: the JSON that the program in e2e/k8s/load answers with. Its type Report
// describes the fields.
type Report struct {
	Rows, Open, Errors, Failed, Dead int
	Lost, Doubled, Disordered        int
	Median, P99, Longest             int64
	Problems                         []string
}

// operator is a user of kubectl, with one namespace.
type operator struct {
	t *testing.T
	// client are the flags by which clients speak TLS to coordinators; empty means that they speak no TLS.
	client authority.Files
}

// newOperator makes an operator, or skips the test where no Kubernetes cluster is given.
func newOperator(t *testing.T) *operator {
	t.Helper()
	if *kubeconfigFlag == "" {
		t.Skip("no Kubernetes given: make e2e-k8s KUBECONFIG=FILE runs this on a cluster that may be broken")
	}
	return &operator{t: t}
}

// try runs kubectl in the namespace.
func (o *operator) try(args ...string) (string, error) {
	cmd := exec.Command("kubectl", append([]string{"--kubeconfig", *kubeconfigFlag, "-n", namespace}, args...)...)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w\n%s%s", strings.Join(args, " "), err, out, problems.String())
	}
	return string(out), err
}

// do runs kubectl in the namespace, and fails the test where that fails.
func (o *operator) do(args ...string) string {
	o.t.Helper()
	out, err := o.try(args...)
	if err != nil {
		o.t.Fatal(err)
	}
	return out
}

// until calls question again and again until it returns nil.
func (o *operator) until(what string, question func() error) {
	o.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		err := question()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("%s: not within %s: %v\n%s", what, patience, err, o.pods())
		}
	}
}

// pods is a table of all pods, for failures.
func (o *operator) pods() string {
	out, _ := o.try("get", "pods", "-o", "wide")
	return out
}

// rolled waits until a workload has rolled out.
func (o *operator) rolled(workload string) {
	o.t.Helper()
	o.do("rollout", "status", workload, "--timeout", patience.String())
}

// calm waits until all workloads are complete and no pod is being deleted.
func (o *operator) calm() {
	o.t.Helper()
	o.rolled("statefulset/etcd")
	o.complete()
	o.until("no pod is on its way", func() error {
		out := o.do("get", "pods", "-o", `jsonpath={range .items[*]}{.metadata.name}{"|"}{.status.phase}{"|"}{.metadata.deletionTimestamp}{"\n"}{end}`)
		for line := range strings.Lines(out) {
			if fields := strings.Split(strings.TrimSpace(line), "|"); fields[1] == "Pending" || fields[2] != "" {
				return fmt.Errorf("pod %s", line)
			}
		}
		return nil
	})
}

// complete waits until all workloads have rolled out, except for etcd, which may lack a member.
func (o *operator) complete() {
	o.t.Helper()
	for _, workload := range []string{"statefulset/redis", "deployment/coordinator", "deployment/worker", "deployment/load"} {
		o.rolled(workload)
	}
}

// first returns the name of one pod of a workload.
func (o *operator) first(workload string) string {
	o.t.Helper()
	return strings.Fields(o.do("get", "pods", "-l", "app.kubernetes.io/name="+workload, "--field-selector", "status.phase=Running",
		"-o", "jsonpath={.items[*].metadata.name}"))[0]
}

// nodes are the names of all nodes.
func (o *operator) nodes() []string {
	o.t.Helper()
	return strings.Fields(o.do("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
}

// kisgrid runs the command line against a coordinator, as docs/kubernetes.md does.
func (o *operator) kisgrid(args ...string) string {
	o.t.Helper()
	forward := exec.Command("kubectl", "--kubeconfig", *kubeconfigFlag, "-n", namespace, "port-forward", "svc/coordinator", ":7700")
	out, err := forward.StdoutPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	if err := forward.Start(); err != nil {
		o.t.Fatal(err)
	}
	defer func() {
		_ = forward.Process.Kill()
		_ = forward.Wait() // the error says that it was killed
	}()
	line, err := bufio.NewReader(out).ReadString('\n') // Forwarding from 127.0.0.1:40000 -> 7700
	fields := strings.Fields(line)
	if err != nil || len(fields) < 3 {
		o.t.Fatalf("port-forward says %q: %v", line, err)
	}
	cmd := exec.Command("go", append([]string{"run", "../../cmd/kisgrid"}, args...)...)
	cmd.Env = append(os.Environ(), "KISGRID_SERVER="+fields[2])
	if o.client.CA != "" {
		cmd.Env = append(cmd.Env, "KISGRID_TLS_CERT="+o.client.Cert, "KISGRID_TLS_KEY="+o.client.Key, "KISGRID_TLS_CA="+o.client.CA, "KISGRID_TLS_SERVER_NAME=coordinator")
	}
	answer, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("kisgrid %s: %v\n%s", strings.Join(args, " "), err, answer)
	}
	return string(answer)
}

// ask sends a request to the program load, such as "stop", and decodes the JSON of the answer.
func (o *operator) ask(what string, answer any) error {
	out, err := o.try("create", "--raw", "/api/v1/namespaces/"+namespace+"/services/load:8080/proxy/"+what, "-f", os.DevNull)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), answer)
}

// report asks the program load how the rows of the present round have ended so far.
func (o *operator) report() (r Report, err error) {
	out, err := o.try("get", "--raw", "/api/v1/namespaces/"+namespace+"/services/load:8080/proxy/report")
	if err == nil {
		err = json.Unmarshal([]byte(out), &r)
	}
	return r, err
}

// apply brings the cluster up from nothing, with one of the folders of manifests.
func (o *operator) apply(overlay string, claims ...string) {
	o.t.Helper()
	o.do("delete", "namespace", namespace, "--ignore-not-found")
	if *volumesFlag != "" {
		o.volumes(claims)
	}
	o.do("apply", "-k", filepath.Join("manifests", overlay))
	o.t.Cleanup(func() {
		if o.t.Failed() {
			o.t.Log(o.pods())
		}
	})
	o.do("wait", "--for=condition=complete", "job/apply", "--timeout", patience.String())
	o.calm()
}

// volumes makes the volumes for claims, in a folder that each node has.
func (o *operator) volumes(claims []string) {
	o.t.Helper()
	if err := os.RemoveAll(*volumesFlag); err != nil {
		o.t.Fatal(err)
	}
	for _, claim := range claims {
		dir := filepath.Join(*volumesFlag, claim)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			o.t.Fatal(err)
		}
		if err := os.Chown(dir, nobody, nobody); err != nil {
			o.t.Fatal(err)
		}
		o.do("delete", "persistentvolume", "kisgrid-"+claim, "--ignore-not-found")
		manifest := filepath.Join(o.t.TempDir(), "volume.yaml")
		text := fmt.Sprintf("{apiVersion: v1, kind: PersistentVolume, metadata: {name: kisgrid-%s}, spec: {capacity: {storage: 10Gi}, accessModes: [ReadWriteOnce], "+
			"claimRef: {namespace: %s, name: %s}, hostPath: {path: %s}}}", claim, namespace, claim, dir)
		if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
			o.t.Fatal(err)
		}
		o.do("apply", "-f", manifest)
	}
}

// event is something that happens to the cluster under load.
type event struct {
	name string
	do   func(o *operator)
	// lasting means that etcd lacks a member from now on.
	lasting bool
	// after undoes the event when the load is over.
	after func(o *operator)
}

// endure lets events happen, each under a load of its own, and prints how many rows each one delayed or failed.
func endure(t *testing.T, o *operator, events []event) {
	t.Helper()
	var table strings.Builder
	fmt.Fprintf(&table, "| event | rows | lost | client errors | effects doubled | out of order | answer, median | answer, longest |\n|---|---|---|---|---|---|---|---|\n")
	for _, e := range events {
		t.Run(e.name, func(t *testing.T) {
			o := &operator{t, o.client}
			o.calm()
			if err := o.ask(fmt.Sprintf("start?rate=%d", *rateFlag), &struct{}{}); err != nil {
				t.Fatal(err)
			}
			o.until("rows are answered", func() error {
				r, err := o.report()
				if err == nil && r.Rows-r.Open < 3**rateFlag {
					err = fmt.Errorf("%d rows of %d are answered", r.Rows-r.Open, r.Rows)
				}
				return err
			})
			if e.do != nil {
				e.do(o)
			}
			if e.lasting {
				o.complete()
			} else {
				o.calm()
			}
			time.Sleep(3 * time.Second) // the load goes on a while after the cluster is calm
			var r Report
			if err := o.ask("stop", &r); err != nil {
				t.Fatal(err)
			}
			if e.after != nil {
				e.after(o)
			}
			fmt.Fprintf(&table, "| %s | %d | %d | %d | %d | %d | %d ms | %.1f s |\n", e.name, r.Rows, r.Lost, r.Errors+r.Failed+r.Dead, r.Doubled, r.Disordered,
				r.Median, float64(r.Longest)/1000)
			t.Logf("%+v", r)
			if r.Open+r.Errors+r.Failed+r.Dead+r.Lost+r.Doubled+r.Disordered > 0 {
				t.Errorf("a promise was broken: %s", strings.Join(r.Problems, "\n"))
			}
		})
	}
	t.Logf("\n%s", table.String())
}

// TestOneNode runs the events for which one node is enough, on the overlay for development.
func TestOneNode(t *testing.T) {
	o := newOperator(t)
	o.apply("dev", "data-etcd-0", "data-redis-0")
	endure(t, o, ordinary())
}

// ordinary are the events that every cluster can have.
func ordinary() []event {
	return []event{
		{name: "nothing", do: func(*operator) { time.Sleep(5 * time.Second) }},
		{name: "workers 2 to 6", do: func(o *operator) { o.do("scale", "deployment/worker", "--replicas=6") }},
		{name: "workers 6 to 2", do: func(o *operator) { o.do("scale", "deployment/worker", "--replicas=2") }},
		{name: "rollout restart of workers", do: func(o *operator) { o.do("rollout", "restart", "deployment/worker") }},
		{name: "rollout undo of workers", do: func(o *operator) { o.do("rollout", "undo", "deployment/worker") }},
		{name: "rollout restart of coordinators", do: func(o *operator) { o.do("rollout", "restart", "deployment/coordinator") }},
		{name: "worker deleted by force", do: func(o *operator) { o.do("delete", "pod", o.first("worker"), "--grace-period=0", "--force") }},
		{name: "coordinator deleted by force", do: func(o *operator) { o.do("delete", "pod", o.first("coordinator"), "--grace-period=0", "--force") }},
		{name: "workers killed for their memory", do: greed},
		{name: "an etcd pod deleted", do: func(o *operator) { o.do("delete", "pod", "etcd-0") }},
		{name: "the Redis pod deleted", do: func(o *operator) { o.do("delete", "pod", "redis-0") }},
	}
}

// greed submits a row that takes all memory of every worker that runs it. In the end that row is dead and kept, and no other row is.
func greed(o *operator) {
	o.t.Helper()
	answer := map[string]string{}
	if err := o.ask("greed", &answer); err != nil {
		o.t.Fatal(err)
	}
	if answer["outcome"] != "dead POISON" {
		o.t.Errorf("the greedy row is %s", answer["outcome"])
	}
	if letters := o.kisgrid("dead", "list", "--flow", "Greedy"); !strings.Contains(letters, "POISON") {
		o.t.Errorf("the greedy row is not among the dead letters:\n%s", letters)
	}
	o.until("workers were killed for their memory", func() error { // the kubelet reports it a moment later
		out := o.do("get", "pods", "-l", "app.kubernetes.io/name=worker",
			"-o", "jsonpath={.items[*].status.containerStatuses[*]['state','lastState'].terminated.reason}")
		if !strings.Contains(out, "OOMKilled") {
			return fmt.Errorf("workers ended for %q", out)
		}
		return nil
	})
}

// TestThreeNodes runs the events that need several nodes, on the overlay for production, with mutual TLS and three members of etcd.
func TestThreeNodes(t *testing.T) {
	o := newOperator(t)
	nodes := o.nodes()
	if len(nodes) < 3 {
		t.Skipf("the cluster has %d nodes, and this takes 3", len(nodes))
	}
	o.production()
	events := append(ordinary(), event{
		name: "a node drained",
		do: func(o *operator) {
			o.do("drain", o.busy(), "--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector=app.kubernetes.io/name notin (load,redis,etcd)", "--timeout", patience.String())
		},
		after: func(o *operator) {
			for _, n := range nodes {
				o.do("uncordon", n)
			}
		},
	})
	if *killFlag != "" {
		events = append(events, event{name: "a node killed", lasting: true, do: func(o *operator) {
			cmd := exec.Command("sh", "-c", *killFlag)
			victim := o.busy()
			cmd.Env = append(os.Environ(), "NODE="+victim)
			if out, err := cmd.CombinedOutput(); err != nil {
				o.t.Fatalf("kill %s: %v: %s", victim, err, out)
			}
			o.until("the node is lost", func() error {
				out := o.do("get", "node", victim, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
				if out == "True" {
					return fmt.Errorf("node %s is ready", victim)
				}
				return nil
			})
			o.do("delete", "node", victim) // without the node object its pods are replaced at once, not after five minutes
		}})
	}
	endure(t, o, events)
}

// busy is a node that has a worker, of which there are six by then, and that has neither the load and its Redis nor Kubernetes' API
// server.
func (o *operator) busy() string {
	o.t.Helper()
	for _, replicas := range []string{"2", "6"} { // new pods also go to a node that came back
		o.do("scale", "deployment/worker", "--replicas="+replicas)
		o.calm()
	}
	out := o.do("get", "pods", "-o", `jsonpath={range .items[*]}{.metadata.labels.app\.kubernetes\.io/name}{" "}{.spec.nodeName}{"\n"}{end}`)
	servers := strings.Fields(o.do("get", "endpointslices", "--namespace", "default", "-l", "kubernetes.io/service-name=kubernetes", "-o", "jsonpath={.items[*].endpoints[*].addresses[*]}"))
	has := map[string]map[string]bool{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 2 {
			if has[f[1]] == nil {
				has[f[1]] = map[string]bool{}
			}
			has[f[1]][f[0]] = true
		}
	}
	for node, what := range has {
		if !what["worker"] || what["load"] || what["redis"] {
			continue
		}
		if ip := o.do("get", "node", node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`); !slices.Contains(servers, ip) {
			return node
		}
	}
	o.t.Fatalf("no node has a worker, and neither the load, Redis nor an API server:\n%s", out)
	return ""
}
