import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import {
  canonicalJson,
  countMembers,
  outline,
  pointerToken,
  repeatedMembers,
} from '../../src/manifest/json-text.ts'
import { sameManifest } from '../../src/manifest/manifest.ts'
import { isTimestamp } from '../../src/manifest/timestamp.ts'
import { EventLog, NOBODY } from '../../src/orchestrator/event-log.ts'
import { Lineage } from '../../src/orchestrator/lineage.ts'
import { normalReason } from '../../src/orchestrator/reason.ts'
import { WorkerRecord } from '../../src/orchestrator/record.ts'
import { Registry } from '../../src/orchestrator/registry.ts'
import { Timeline } from '../../src/orchestrator/timeline.ts'
import { manifest } from './manifests.ts'

/** Printed with a counterexample. */
const parameters = { seed: 20260106, numRuns: 200 }

// --- JSON as it is written ---

/** A JSON value before it is written: members may repeat, numbers are spelt. */
type Json =
  | { readonly kind: 'word'; readonly text: string }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'array'; readonly items: readonly Json[] }
  | { readonly kind: 'object'; readonly members: readonly (readonly [string, Json])[] }

const words = ['true', 'false', 'null', '0', '-0', '1', '1.0', '1e0', '10', '1E1', '-12.50', '1e-7']
const anyString = fc.oneof(
  fc.constantFrom('', 'a', 'b', 'a/b', '~', '"', '\\', '\\"', '__proto__', 'é', '😀', '\n', '{}', ':,'),
  fc.string({ unit: 'binary', maxLength: 4 }),
)

const jsonOf = (unique: boolean): fc.Arbitrary<Json> =>
  fc.letrec<{ value: Json; object: Json }>((tie) => {
    const member = fc.tuple(anyString, tie('value'))
    const members = unique
      ? fc.uniqueArray(member, { selector: ([name]) => name, maxLength: 4 })
      : fc.array(member, { maxLength: 4 })
    return {
      object: members.map((members): Json => ({ kind: 'object', members })),
      value: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.constantFrom(...words).map((text): Json => ({ kind: 'word', text })),
        anyString.map((value): Json => ({ kind: 'string', value })),
        fc.array(tie('value'), { maxLength: 4 }).map((items): Json => ({ kind: 'array', items })),
        tie('object'),
      ),
    }
  }).value

/** Choices of a writer: the same ones give the same text. */
class Hand {
  readonly #choices: readonly number[]
  #next = 0

  constructor(choices: readonly number[]) {
    this.#choices = choices
  }

  choose(below: number): number {
    const choice = this.#choices[this.#next % this.#choices.length] ?? 0
    this.#next++
    return choice % below
  }
}

const anyHand = fc.array(fc.nat(97), { minLength: 1, maxLength: 20 }).map((choices) => new Hand(choices))

const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`

function writeString(value: string, hand: Hand): string {
  const units = value.split('').map((unit) => {
    const plain = JSON.stringify(unit).slice(1, -1)
    return hand.choose(4) === 0 ? escaped(unit) : plain
  })
  // Halves of a pair that are written apart are still that pair; one of them plain would be cut off from the other.
  const text = units.join('')
  return /^[\ud800-\udfff]|[\ud800-\udfff]/.test(value)
    ? `"${value.split('').map(escaped).join('')}"`
    : `"${text}"`
}

function write(json: Json, hand: Hand): string {
  const space = () => ['', ' ', '\n\t', '\r\n  '][hand.choose(4)] ?? ''
  const around = (text: string) => `${space()}${text}${space()}`
  switch (json.kind) {
    case 'word':
      return around(json.text)
    case 'string':
      return around(writeString(json.value, hand))
    case 'array':
      return around(`[${json.items.map((item) => write(item, hand)).join(',') || space()}]`)
    case 'object': {
      const members = json.members.map(
        ([name, value]) => `${around(writeString(name, hand))}:${write(value, hand)}`,
      )
      return around(`{${members.join(',') || space()}}`)
    }
  }
}

/** The members in another order. */
function turned(json: Json): Json {
  if (json.kind === 'array') return { ...json, items: json.items.map(turned) }
  if (json.kind !== 'object') return json
  return { ...json, members: json.members.map(([name, value]) => [name, turned(value)] as const).reverse() }
}

function equalAsJson(one: Json, other: Json): boolean {
  if (one.kind === 'word') return other.kind === 'word' && one.text === other.text
  if (one.kind === 'string') return other.kind === 'string' && one.value === other.value
  if (one.kind === 'array') {
    if (other.kind !== 'array' || one.items.length !== other.items.length) return false
    return one.items.every((item, index) => {
      const counterpart = other.items[index]
      return counterpart !== undefined && equalAsJson(item, counterpart)
    })
  }
  if (other.kind !== 'object' || one.members.length !== other.members.length) return false
  return one.members.every(([name, value]) => {
    const counterpart = other.members.find(([candidate]) => candidate === name)
    return counterpart !== undefined && equalAsJson(value, counterpart[1])
  })
}

t.test('what is written is JSON, and its members are counted', async () => {
  const property = fc.property(jsonOf(true), anyHand, (json, hand) => {
    const text = write(json, hand)
    assert.equal(outline(text, 1000, 'resources').members, countMembers(JSON.parse(text)))
  })
  fc.assert(property, parameters)
})

t.test('two texts have one canonical form exactly where they are equal as JSON', async (t) => {
  const value = jsonOf(true)
  const same = fc.property(value, anyHand, anyHand, (json, one, other) => {
    const [first, second] = [write(json, one), write(turned(json), other)]
    assert.equal(canonicalJson(first), canonicalJson(second))
    assert(sameManifest(first, second))
  })
  fc.assert(same, parameters)
  const any = fc.property(value, value, anyHand, (json, another, hand) => {
    const equal = canonicalJson(write(json, hand)) === canonicalJson(write(another, hand))
    assert.equal(equal, equalAsJson(json, another))
  })
  fc.assert(any, parameters)
  for (const [one, other] of [
    ['1', '1.0'],
    ['1e1', '1E1'],
    ['0', '-0'],
    ['{"a":1,"b":2}', '{"a":2,"b":1}'],
    ['{"a":"1"}', '{"a":1}'],
    ['["a,b"]', '["a","b"]'],
    ['{"a":"b\\",\\"c\\":\\"d"}', '{"a":"b","c":"d"}'],
    ['[[],[]]', '[[[]]]'],
  ] as const) {
    t.notOk(sameManifest(one, other), `${one} is not ${other}`)
  }
})

/** Names that repeat one of their object, by JSON pointer, found the slow way. */
function repeatedIn(json: Json, pointer = ''): string[] {
  if (json.kind === 'array')
    return json.items.flatMap((item, index) => repeatedIn(item, `${pointer}/${index}`))
  if (json.kind !== 'object') return []
  return json.members.flatMap(([name, value], index) => {
    const here = `${pointer}/${pointerToken(name)}`
    const isRepeated = json.members.slice(0, index).some(([earlier]) => earlier === name)
    return [...(isRepeated ? [here] : []), ...repeatedIn(value, here)]
  })
}

t.test('repeated members', async (t) => {
  const property = fc.property(jsonOf(false), anyHand, (json, hand) => {
    const expected = [...new Set(repeatedIn(json))]
    const text = write(json, hand)
    assert.deepEqual(repeatedMembers(text, 1000, 1000).sort(), expected.sort())
    assert.equal(
      outline(text, 1000, 'resources').members > countMembers(JSON.parse(text)),
      expected.length > 0,
    )
  })
  fc.assert(property, parameters)
  t.strictSame(
    repeatedMembers('{"a":1,"a":1,"b":1,"b":1,"c":1,"c":1}', 10, 2),
    ['/a', '/b'],
    'at most so many',
  )
  t.strictSame(repeatedMembers('{"a":{"b":1,"b":1},"a":1}', 1, 10), ['/a'], 'none below that depth')
  t.strictSame(repeatedMembers('{"a":[0,{"x":1},{"~/%":1,"~\\/%":2}]}', 10, 10), ['/a/2/~0~1%25'])
})

function depthOf(json: Json): number {
  if (json.kind === 'array') return 1 + Math.max(0, ...json.items.map(depthOf))
  if (json.kind === 'object') return 1 + Math.max(0, ...json.members.map(([, value]) => depthOf(value)))
  return 0
}

t.test('the outline: who is too deep, and how numbers are spelt', async (t) => {
  const isNumber = (json: Json) => json.kind === 'word' && /\d/.test(json.text)
  const property = fc.property(
    jsonOf(true),
    anyHand,
    fc.integer({ min: 1, max: 4 }),
    (json, hand, maxDepth) => {
      const { tooDeep, numbers } = outline(write(json, hand), maxDepth, 'resources')
      const members = json.kind === 'object' ? json.members : []
      const deep = members.filter(([, value]) => 1 + depthOf(value) > maxDepth).map(([name]) => name)
      if (json.kind === 'object') assert.deepEqual([...tooDeep].sort(), deep.sort())
      else assert.deepEqual([...tooDeep], depthOf(json) > maxDepth ? [''] : [])
      const spelt = new Map<string, string>()
      for (const [name, value] of members) {
        if (value.kind === 'word' && isNumber(value)) spelt.set(`/${name}`, value.text)
      }
      for (const [pointer, text] of spelt) {
        const isAmbiguous = pointer.slice(1).includes('/')
        if (!isAmbiguous) assert.equal(numbers.get(pointer), text)
      }
    },
  )
  fc.assert(property, parameters)
  const { numbers } = outline(
    '{"depth": 1e2, "resources": {"cpu_limit":0.50,"n":{"x":3}}, "s": "1", "l": [7]}',
    9,
    'resources',
  )
  t.equal(numbers.get('/depth'), '1e2')
  t.equal(numbers.get('/resources/cpu_limit'), '0.50')
  t.strictSame([...numbers.values()].includes('3'), false)
  t.strictSame([...outline('[[[]]]', 2, 'resources').tooDeep], [''])
  t.strictSame(
    [...outline(`${'['.repeat(100_000)}${']'.repeat(100_000)}`, 2, 'resources').tooDeep],
    [''],
    'no recursion',
  )
})

t.test('timestamps', async (t) => {
  for (const text of [
    '2026-01-06T09:30:00Z',
    '2026-01-06T09:30:00.1Z',
    '2026-01-06T09:30:00.123456789+00:00',
    '2026-12-31T23:59:59-23:59',
    '2024-02-29T00:00:00Z',
    '2000-02-29T00:00:00Z',
    '0000-01-01T00:00:00Z',
  ]) {
    t.ok(isTimestamp(text), text)
  }
  for (const text of [
    '',
    '2026-01-06',
    '2026-01-06T09:30:00',
    '2026-01-06T09:30Z',
    '2026-01-06 09:30:00Z',
    '2026-01-06t09:30:00z',
    '2026-01-06T09:30:00,1Z',
    '2026-01-06T09:30:00.Z',
    '2026-01-06T24:00:00Z',
    '2026-01-06T09:60:00Z',
    '2026-06-30T23:59:60Z',
    '2026-02-29T00:00:00Z',
    '1900-02-29T00:00:00Z',
    '2026-04-31T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-00-01T00:00:00Z',
    '2026-01-00T00:00:00Z',
    '2026-01-32T00:00:00Z',
    '26-01-06T09:30:00Z',
    '2026-01-06T09:30:00+24:00',
    '2026-01-06T09:30:00+0000',
    '2026-01-06T09:30:00Z\n',
    ' 2026-01-06T09:30:00Z',
  ]) {
    t.notOk(isTimestamp(text), text)
  }
})

// --- The core's own structures ---

t.test('a timeline is a list from which some were taken out', async () => {
  const steps = fc.array(fc.oneof(fc.constant('append' as const), fc.nat(400)), {
    maxLength: 400,
    size: 'max',
  })
  const property = fc.property(steps, (list) => {
    const timeline = new Timeline<string>()
    const model = new Map<number, string>()
    for (const step of list) {
      if (step === 'append') {
        const item = `item ${model.size}`
        const ordinal = timeline.append(item)
        if (model.has(ordinal)) assert.fail('an ordinal is given twice')
        model.set(ordinal, item)
      } else {
        timeline.delete(step)
        model.delete(step)
      }
      if (timeline.size !== model.size) assert.fail('size')
      if (timeline.oldest() !== [...model.values()][0]) assert.fail('oldest')
    }
    for (const after of [0, 1, 57, 399]) {
      const expected = [...model].filter(([ordinal]) => ordinal > after).map(([, item]) => item)
      assert.deepEqual([...timeline.after(after)], expected)
    }
  })
  fc.assert(property, { ...parameters, numRuns: 60 })
})

interface ModelLife {
  readonly id: string
  parent: ModelLife | undefined
  record: 'expected' | 'known' | 'forgotten'
}

/** Every life in one list, forgotten ones dropped one by one: slow, and plainly right. */
class LineageModel {
  lives: ModelLife[] = []

  latest = (id: string) => this.lives.findLast((life) => life.id === id)

  begin(id: string): ModelLife {
    const life: ModelLife = { id, parent: undefined, record: 'expected' }
    this.lives.push(life)
    return life
  }

  launch(id: string, parent: string | null): void {
    const latest = this.latest(id)
    const life = latest?.record === 'expected' ? latest : this.begin(id)
    life.record = 'known'
    if (parent !== null) life.parent = this.latest(parent) ?? this.begin(parent)
    const earlier = this.lives.filter((other) => other.id === id && other !== life)
    for (const other of earlier) other.record = 'forgotten'
    this.drop()
  }

  forget(id: string): void {
    const latest = this.latest(id)
    if (latest?.record === 'known') latest.record = 'forgotten'
    this.drop()
  }

  drop(): void {
    const isNeeded = (life: ModelLife) =>
      life.record === 'known' || this.lives.some(({ parent }) => parent === life)
    while (!this.lives.every(isNeeded)) this.lives = this.lives.filter(isNeeded)
  }

  descent(root: string): string[] {
    const reached = new Set(this.lives.filter(({ id }) => id === root))
    for (const at of reached) for (const life of this.lives) if (life.parent === at) reached.add(life)
    const ids = [...reached].filter((life) => this.latest(life.id) === life).map(({ id }) => id)
    return [...new Set([root, ...ids])].sort()
  }
}

t.test('lineage: life by life, as long as somebody below is known', async () => {
  const id = fc.constantFrom('a', 'b', 'c', 'd')
  const parent = fc.option(id, { nil: null })
  const steps = fc.array(fc.tuple(fc.boolean(), id, parent), { maxLength: 30 })
  const property = fc.property(steps, (list) => {
    const lineage = new Lineage(1000, () => assert.fail('nothing is dropped'))
    const model = new LineageModel()
    for (const [launches, child, of] of list) {
      if (child === of) continue
      const known = model.latest(child)?.record === 'known'
      if (launches) {
        lineage.hold(child, of)
        if (known) lineage.release(child, 1)
        model.launch(child, of)
      } else if (known) {
        lineage.release(child)
        model.forget(child)
      }
      for (const root of ['a', 'b', 'c', 'd']) {
        assert.deepEqual([...lineage.descent(root)].sort(), model.descent(root))
      }
      assert.equal(lineage.size, model.lives.filter(({ parent }) => parent !== undefined).length)
    }
  })
  fc.assert(property, parameters)
})

t.test('lineage: through the forgotten, and with a limit', async (t) => {
  const dropped: string[] = []
  const lineage = new Lineage(3, (child, parent) => dropped.push(`${child} < ${parent}`))
  lineage.hold('b', 'a')
  lineage.hold('c', 'b')
  lineage.release('b')
  t.strictSame([...lineage.descent('a')], ['a', 'b', 'c'])
  lineage.hold('d', 'c')
  t.strictSame(dropped, [])
  lineage.hold('e', 'd')
  t.strictSame(dropped, ['b < a'])
  t.equal(lineage.size, 3)
  t.strictSame([...lineage.descent('a')], ['a'])
  lineage.hold('x', 'y')
  t.strictSame(dropped, ['b < a', 'c < b'])
  for (const id of ['c', 'e', 'd', 'x']) lineage.release(id)
  t.equal(lineage.size, 0)
})

t.test('lineage: a worker that is launched again begins a new line', async (t) => {
  const lineage = new Lineage(10, () => {})
  lineage.hold('b', 'z')
  lineage.hold('k', 'b')
  lineage.release('b')
  lineage.hold('b', 'a')
  lineage.hold('c', 'b')
  t.strictSame([...lineage.descent('z')], ['z', 'k'], "c descends from b's later life, which is not below z")
  t.strictSame([...lineage.descent('a')].sort(), ['a', 'b', 'c'])
  t.strictSame([...lineage.descent('b')].sort(), ['b', 'c', 'k'], 'whoever names b means all its lives')
})

t.test('the registry: statuses, counts, and who is forgotten', async (t) => {
  const lineage = new Lineage(10, () => {})
  const registry = new Registry({ retainedRecords: 1, stateBytes: 1e6, liveWorkers: 2 }, lineage)
  const add = (id: string, parent_id: string | null = null) => {
    const record = new WorkerRecord(`sb-${id}`, manifest(id, { parent_id }))
    registry.add(record)
    return record
  }
  const [a, b] = [add('a'), add('b', 'a')]
  t.strictSame(registry.counts, { pending: 2, running: 0, killing: 0 })
  t.match(registry.missingCapacity(0), /MAX_WORKERS is 2/)
  t.equal(registry.missingCapacity(0, a), undefined)
  registry.move(a, 'running')
  for (const status of ['pending', 'killed', 'failed', 'running'] as const) {
    t.throws(() => registry.move(a, status), /cannot go from running/)
  }
  registry.move(a, 'killing')
  t.throws(() => registry.move(a, 'exited'))
  registry.move(a, 'killed')
  for (const status of ['pending', 'running', 'killing', 'exited', 'failed'] as const) {
    t.throws(() => registry.move(a, status))
  }
  t.equal(registry.liveInSandbox('sb-a'), undefined)
  t.equal(registry.liveInSandbox('sb-b'), b)
  t.equal(registry.get('a'), a)
  registry.move(b, 'running')
  registry.move(b, 'exited')
  t.equal(registry.get('a'), undefined, 'the one that ended first goes first')
  t.strictSame([...registry.acceptedAfter(0)], [b])
  const again = add('b')
  t.equal(registry.get('b'), again, 'in the place of the old one')
  t.equal(lineage.size, 0)
  t.strictSame([...registry.acceptedAfter(b.acceptedOrdinal)], [again])
})

t.test('the event log keeps the newest, under numbers without a gap', async () => {
  const appended = fc.array(fc.constantFrom('a', 'b'), { maxLength: 30 })
  const property = fc.property(
    appended,
    fc.integer({ min: 1, max: 8 }),
    fc.nat(34),
    fc.integer({ min: 1, max: 5 }),
    fc.option(fc.constantFrom('a', 'b'), { nil: undefined }),
    (list, capacity, after, limit, workerId) => {
      const log = new EventLog(capacity)
      const heard: number[] = []
      const stop = log.subscribe(({ seq }) => heard.push(seq))
      for (const worker_id of list) log.append('container_killed', { worker_id, reason: 'why' }, NOBODY)
      stop()
      const kept = list.map((worker, index) => ({ worker, seq: index + 1 })).slice(-capacity)
      const oldest = kept[0]?.seq ?? 1
      assert.deepEqual(
        heard,
        list.map((_, index) => index + 1),
      )
      const isKept = after === 0 || (after >= oldest - 1 && after <= list.length)
      if (!isKept) {
        assert.throws(() => log.page(after, limit, { workerId }), { code: 'events_expired' })
        return
      }
      const later = kept.filter(({ seq, worker }) => {
        return seq > after && (workerId === undefined || workerId === worker)
      })
      const page = JSON.parse(log.page(after, limit, { workerId }))
      const seqs = page.items.map(({ seq }: { seq: number }) => seq)
      assert.deepEqual(
        seqs,
        later.slice(0, limit).map(({ seq }) => seq),
      )
      assert.equal(page.has_more, page.next_after < list.length)
      if (later.length > limit) assert.equal(page.next_after, seqs.at(-1))
      assert.deepEqual([page.oldest_seq, page.newest_seq, page.log_id], [oldest, list.length, log.id])
    },
  )
  fc.assert(property, parameters)
})

t.test('a filter that matches nothing looks at so many, and says how far it came', async (t) => {
  const log = new EventLog(20_000)
  for (let index = 0; index < 15_000; index++) {
    log.append('container_killed', { worker_id: 'a', reason: 'why' }, NOBODY)
  }
  const page = JSON.parse(log.page(0, 10, { workerId: 'b' }))
  t.match(page, { items: [], has_more: true, next_after: 10_000 })
  t.match(JSON.parse(log.page(10_000, 10, { workerId: 'b' })), { has_more: false, next_after: 15_000 })
  t.match(JSON.parse(log.page(undefined, 1, { name: 'container_killed' })), { next_after: 1 })
})

t.test('a reason is kept whatever it is', async (t) => {
  const property = fc.property(
    fc.option(fc.string({ unit: 'binary', maxLength: 600, size: 'max' })),
    (words) => {
      const reason = normalReason(words ?? undefined)
      assert(reason.length > 0)
      assert([...reason].length <= 256)
      assert.doesNotMatch(reason, /\p{Cc}/u)
      assert(reason.isWellFormed())
      assert.equal(normalReason(reason), reason)
    },
  )
  fc.assert(property, parameters)
  t.equal(normalReason(undefined), 'unspecified')
  t.equal(normalReason(''), 'unspecified')
  t.equal(normalReason('a\u0000b\u0085c'), 'a b c')
  t.equal(normalReason('😀'.repeat(300)), '😀'.repeat(256))
  t.equal(normalReason('😀'.repeat(200)), '😀'.repeat(200))
  t.equal(normalReason('\ud800x'), '\ufffdx')
})
