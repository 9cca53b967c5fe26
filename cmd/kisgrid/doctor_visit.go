package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// visited is the answer of one coordinator or worker that the doctor has asked at its own addresses.
type visited struct {
	err, httpErr error // why its gRPC port, or its HTTP port, does not answer
	series       series
	ahead        time.Duration // how far its clock is ahead of the one here
	doubt        time.Duration // how far that may be wrong
}

// maxVisits is how many coordinators the doctor asks at a time.
const maxVisits = 8

// Limits for what the doctor finds wrong.
const (
	maxSkew      = 2 * time.Second // between clocks; ages and deadlines of letters are compared across processes
	mostFiles    = 0.8             // of the files that a process may open
	mostLetters  = 0.9             // of the letters that a flow may have
	maxPageBytes = 16 << 20        // of a page of metrics
)

// visit asks each coordinator at its own addresses, and each worker at its HTTP port. Its error is that of the context.
func (d *doctor) visit(ctx context.Context) error {
	answers := make([]visited, len(d.coordinators))
	pages := make([]visited, len(d.workers))
	var asking sync.WaitGroup
	places := make(chan struct{}, maxVisits)
	visit := func(into *visited, ask func() visited) {
		asking.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			*into = ask()
		})
	}
	for i, c := range d.coordinators {
		visit(&answers[i], func() visited { return d.ask(ctx, c) })
	}
	for i, w := range d.workers {
		if w.HTTP != "" {
			visit(&pages[i], func() (v visited) {
				d.scrapeInTime(ctx, w.HTTP, &v)
				return v
			})
		}
	}
	asking.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	limits := map[float64][]string{}
	for i, c := range d.coordinators {
		v := &answers[i]
		d.judgePorts(c, v)
		if v.series == nil {
			continue
		}
		d.judgeClock(c.ID, v)
		d.judgeFiles(c.ID, v)
		if limit, ok := v.series["kisgrid_dead_letters_limit"]; ok {
			limits[limit] = append(limits[limit], c.ID)
		} else {
			limits[0] = append(limits[0], c.ID)
		}
		d.judgeLetters(c, v)
	}
	if len(limits) > 1 {
		var texts []string
		for _, limit := range slices.Sorted(maps.Keys(limits)) {
			texts = append(texts, fmt.Sprintf("%.0f at %s", limit, strings.Join(limits[limit], ", ")))
		}
		d.find(stateWrong, "letters", "", "coordinators keep different numbers of dead letters of a flow: "+strings.Join(texts, "; "), "start all coordinators with the same --dead-letters flags")
	}
	d.judgeWorkers(pages)
	return nil
}

// judgeWorkers looks at clocks and files of workers. One finding counts the workers whose ports do not answer from here.
func (d *doctor) judgeWorkers(pages []visited) {
	var silent []string
	for i, w := range d.workers {
		v := &pages[i]
		switch {
		case v.httpErr != nil:
			silent = append(silent, w.ID)
		case v.series != nil:
			d.judgeClock(w.ID, v)
			d.judgeFiles(w.ID, v)
		}
	}
	if n := len(silent); n > 0 {
		d.find(stateUnknown, "worker", silent[0], fmt.Sprintf("the HTTP ports of this and %d other workers do not answer from here, so their clocks and files are not known", n-1),
			"no harm if only the cluster reaches them; else open the ports")
	}
}

// judgeLimits compares the limits for rows and batches of coordinators with each other, and those of workers with them. Coordinators cut parts to
// the limits of a worker, so that smaller ones only cost time; workers have no limit of their own for a row.
func (d *doctor) judgeLimits() {
	coordinators, all := map[cluster.Limits][]string{}, map[cluster.Limits][]string{}
	for _, c := range d.coordinators {
		if c.Limits != nil {
			l := *c.Limits
			coordinators[l] = append(coordinators[l], c.ID)
			l.RowBytes = 0
			all[l] = append(all[l], "coordinator "+c.ID)
		}
	}
	for _, w := range d.workers {
		if w.Limits != nil {
			l := *w.Limits
			l.RowBytes = 0
			all[l] = append(all[l], "worker "+w.ID)
		}
	}
	switch {
	case len(coordinators) > 1:
		d.find(stateWrong, "limits", "", "coordinators have different limits: "+limitTexts(coordinators),
			"start all with the same --max-row-bytes, --max-batch-bytes and --max-batch-rows; one refuses what another takes")
	case len(all) > 1:
		d.find(stateLook, "limits", "", "limits differ: "+limitTexts(all), "start workers with the --max-batch-bytes and --max-batch-rows of the coordinators; smaller ones make smaller parts")
	default:
		d.find(stateGood, "limits", "", "all processes have the same limits for rows and batches", "")
	}
}

// limitTexts says which limits there are, and where.
func limitTexts(limits map[cluster.Limits][]string) string {
	var texts []string
	for l, of := range limits {
		slices.Sort(of)
		text := fmt.Sprintf("%d bytes and %d rows a batch at %s", l.BatchBytes, l.BatchRows, few(of))
		if l.RowBytes > 0 {
			text = fmt.Sprintf("%d bytes a row, ", l.RowBytes) + text
		}
		texts = append(texts, text)
	}
	slices.Sort(texts)
	return strings.Join(texts, "; ")
}

// few joins some of many names.
func few(names []string) string {
	const most = 3
	text := strings.Join(names[:min(len(names), most)], ", ")
	if len(names) > most {
		text += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return text
}

// ask asks one coordinator. It takes at most twice the timeout.
func (d *doctor) ask(ctx context.Context, c cluster.Coordinator) (v visited) {
	own := *d.server
	own.address = c.Address
	func() {
		ctx, cancel := context.WithTimeout(ctx, d.timeout)
		defer cancel()
		v.err = own.call(func(a pb.AdminClient) error {
			_, err := a.Version(ctx, &pb.VersionRequest{})
			return err
		})
	}()
	if c.HTTP == "" {
		return v
	}
	d.scrapeInTime(ctx, c.HTTP, &v)
	return v
}

// scrapeInTime does the same as scrape within the timeout, and notes the error.
func (d *doctor) scrapeInTime(ctx context.Context, address string, v *visited) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	v.httpErr = d.scrape(ctx, address, v)
}

// scrape reads the metrics and the clock of a process at its HTTP port.
func (d *doctor) scrape(ctx context.Context, address string, v *visited) error {
	tls, err := d.server.transport.ClientTLS()
	if err != nil {
		return err
	}
	scheme := "http"
	if tls != nil {
		scheme = "https"
	}
	tr := &http.Transport{TLSClientConfig: tls}
	defer tr.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+"/metrics", nil)
	if err != nil {
		return err
	}
	asked := time.Now()
	response, err := tr.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answered := time.Now()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", response.Status)
	}
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil { // the second that its clock was in
		half := answered.Sub(asked) / 2
		v.ahead = date.Add(time.Second / 2).Sub(asked.Add(half))
		v.doubt = half + time.Second/2
	}
	v.series, err = readSeries(io.LimitReader(response.Body, maxPageBytes))
	return err
}

// judgePorts looks at whether the ports of a coordinator answer.
func (d *doctor) judgePorts(c cluster.Coordinator, v *visited) {
	if v.err != nil {
		d.find(stateUnknown, "coordinator", c.ID, "it does not answer from here: "+v.err.Error(), "no harm if only the cluster reaches "+c.Address+"; else open the port, or mend --advertise")
	}
	switch {
	case c.HTTP == "":
		d.find(stateLook, "coordinator", c.ID, "it serves no HTTP, and so no metrics and health", "start it with --http")
	case v.httpErr != nil:
		d.find(stateUnknown, "coordinator", c.ID, "its HTTP port does not answer from here, so its clock, files and letters are not known: "+v.httpErr.Error(),
			"no harm if only the cluster reaches "+c.HTTP+"; else open the port")
	}
}

// judgeClock compares the clock of a process with the one here.
func (d *doctor) judgeClock(id string, v *visited) {
	if off := v.ahead.Abs(); off-v.doubt > maxSkew {
		direction := "ahead of"
		if v.ahead < 0 {
			direction = "behind"
		}
		d.find(stateWrong, "clock", id, fmt.Sprintf("its clock is %s %s the one here", off.Round(time.Second), direction), "let NTP set the clocks of all machines, this one too")
		return
	}
	d.find(stateGood, "clock", id, "its clock is that of this machine", "")
}

// judgeFiles looks at how many files a process has open, of those that it may open.
func (d *doctor) judgeFiles(id string, v *visited) {
	open, most := v.series["process_open_fds"], v.series["process_max_fds"]
	switch {
	case most == 0: // not known on this system
	case open > mostFiles*most:
		d.find(stateWrong, "files", id, fmt.Sprintf("it has %.0f files open, of %.0f", open, most), "raise the limit of the process (ulimit -n, LimitNOFILE); each client and worker takes one")
	default:
		d.find(stateGood, "files", id, fmt.Sprintf("it has %.0f files open, of %.0f", open, most), "")
	}
}

// judgeLetters looks at the store of dead letters, as a coordinator sees it.
func (d *doctor) judgeLetters(c cluster.Coordinator, v *visited) {
	up, has := v.series["kisgrid_dead_letters_up"]
	switch {
	case !has:
		d.find(stateLook, "letters", c.ID, "it keeps no dead letters: rows that fail for good are gone", "start all coordinators with --dead-letters redis://…")
	case up == 0:
		d.find(stateWrong, "letters", c.ID, "the store of dead letters does not answer", "start it, or open the way to it; until then letters are not kept")
	default:
		d.find(stateGood, "letters", c.ID, "the store of dead letters answers", "")
	}
	limit := v.series["kisgrid_dead_letters_limit"]
	for _, name := range slices.Sorted(maps.Keys(v.series)) {
		if n := v.series[name]; limit > 0 && strings.HasPrefix(name, "kisgrid_dead_letters{") && n > mostLetters*limit && !d.told(name) {
			d.find(stateWrong, "letters", labelOf(name, "flow"), fmt.Sprintf("%.0f letters are kept, of %.0f; then no more are", n, limit), "redrive or drop letters, or raise the limit")
		}
	}
}

// told reports whether a finding about the letters of a flow is there already: all coordinators tell the same.
func (d *doctor) told(name string) bool {
	return slices.ContainsFunc(d.findings, func(f finding) bool { return f.Check == "letters" && f.Subject == labelOf(name, "flow") })
}

// series are the values of a page of metrics, by their name with its labels.
type series map[string]float64

// readSeries reads a page of metrics in Prometheus' text format.
func readSeries(page io.Reader) (series, error) {
	all := series{}
	lines := bufio.NewScanner(page)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no line of metrics", firstLine(line))
		}
		all[line[:at]] = value
	}
	return all, lines.Err()
}

// labelOf returns the value of a label in the name of a series.
func labelOf(name, label string) string {
	_, rest, _ := strings.Cut(name, label+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
