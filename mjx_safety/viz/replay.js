"use strict";
// -- the recording ----------------------------------------------------------------------------------------------------
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const last = data.num_steps, limit = data.cost_limit;  // limit: null if there is none
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
for (const world of data.worlds) {
  world.poses = new Int16Array(bytes(world.poses).buffer);  // [T + 1, moving things, 7]: position, quaternion (w, x, y, z)
  world.returns = new Float32Array(bytes(world.returns).buffer);  // [T + 1] so far
  world.costs = new Float32Array(bytes(world.costs).buffer);  // [T + 1] so far
  world.costly = bytes(world.costly);  // [T + 1] did the state cost?
  world.lidar = bytes(world.lidar);  // [T + 1, kinds, bins] in 0..255
}
const state = { time: 0, playing: false, camera: "track", chosen: 0, halo: true, speed: 1 };

// Pose [7] of a solid at a time in steps. It is interpolated between two steps, unless the solid jumped.
function poseOf(world, thing, time) {
  if (thing.pose) return thing.pose;
  const low = Math.min(Math.floor(time), last), high = Math.min(low + 1, last), share = time - low;
  const a = rowOf(world, low, thing.row), b = rowOf(world, high, thing.row);
  if (share === 0 || Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]) > 0.5) return a;
  const sign = a[3] * b[3] + a[4] * b[4] + a[5] * b[5] + a[6] * b[6] < 0 ? -1 : 1;
  const mixed = a.map((value, i) => value * (1 - share) + (i > 2 ? sign : 1) * b[i] * share);
  const length = Math.hypot(mixed[3], mixed[4], mixed[5], mixed[6]) || 1;
  return mixed.map((value, i) => (i > 2 ? value / length : value));
}
function rowOf(world, step, row) {
  const start = (step * world.num_moving + row) * 7, pose = [];
  for (let i = 0; i < 7; i++) pose[i] = world.poses[start + i] * (i > 2 ? 1 / 32767 : world.metres);
  return pose;
}

// -- matrices, column by column ---------------------------------------------------------------------------------------
function times(a, b) {
  const out = new Float32Array(16);
  for (let c = 0; c < 4; c++) for (let r = 0; r < 4; r++)
    for (let k = 0; k < 4; k++) out[4 * c + r] += a[4 * k + r] * b[4 * c + k];
  return out;
}
function fromPose([x, y, z, w, i, j, k]) {
  return new Float32Array([
    1 - 2 * (j * j + k * k), 2 * (i * j + w * k), 2 * (i * k - w * j), 0,
    2 * (i * j - w * k), 1 - 2 * (i * i + k * k), 2 * (j * k + w * i), 0,
    2 * (i * k + w * j), 2 * (j * k - w * i), 1 - 2 * (i * i + j * j), 0, x, y, z, 1]);
}
const minus = (a, b) => a.map((value, i) => value - b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => { const length = Math.hypot(...a) || 1; return a.map((value) => value / length); };
function lookAt(eye, target, up) {
  const z = unit(minus(eye, target)), x = unit(cross(up, z)), y = cross(z, x);
  return new Float32Array([x[0], y[0], z[0], 0, x[1], y[1], z[1], 0, x[2], y[2], z[2], 0, -dot(x, eye), -dot(y, eye), -dot(z, eye), 1]);
}
function perspective(aspect, near, far) {
  const f = 1 / Math.tan(Math.PI / 8);
  return new Float32Array([f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, 2 * far * near / (near - far), 0]);
}
const orthographic = (aspect, half, far) =>
  new Float32Array([1 / (half * aspect), 0, 0, 0, 0, 1 / half, 0, 0, 0, 0, -2 / far, 0, 0, 0, -1, 1]);

// -- shapes: triangles as position, normal ----------------------------------------------------------------------------
function revolve(segments, around) {  // segments of a profile: [[radius, z, normal's radius, normal's z], the same]
  const out = [];
  const at = ([r, z, nr, nz], angle) => [r * Math.cos(angle), r * Math.sin(angle), z, nr * Math.cos(angle), nr * Math.sin(angle), nz];
  for (const [top, low] of segments) for (let n = 0; n < around; n++) {
    const a = 2 * Math.PI * n / around, b = 2 * Math.PI * (n + 1) / around;
    if (top[0] > 0) out.push(...at(top, a), ...at(low, a), ...at(top, b));
    if (low[0] > 0) out.push(...at(top, b), ...at(low, a), ...at(low, b));
  }
  return out;
}
function cap(radius, z, sign, rings) {  // half a ball, from the pole to the equator
  const at = (n) => { const t = Math.PI / 2 * n / rings; return [radius * Math.sin(t), z + sign * radius * Math.cos(t), Math.sin(t), sign * Math.cos(t)]; };
  const pairs = [];
  for (let n = 0; n < rings; n++) pairs.push(sign > 0 ? [at(n), at(n + 1)] : [at(n + 1), at(n)]);
  return pairs;
}
const side = (r, h) => [[r, h, 1, 0], [r, -h, 1, 0]];
function boxOf([a, b, c]) {
  const out = [];
  for (let axis = 0; axis < 3; axis++) for (const sign of [1, -1]) {
    const half = [a, b, c], u = (axis + 1) % 3, v = (axis + 2) % 3, normal = [0, 0, 0];
    normal[axis] = sign;
    const corner = (s, t) => { const p = [0, 0, 0]; p[axis] = sign * half[axis]; p[u] = s * sign * half[u]; p[v] = t * half[v]; return [...p, ...normal]; };
    for (const [s, t] of [[-1, -1], [1, -1], [1, 1], [-1, -1], [1, 1], [-1, 1]]) out.push(...corner(s, t));
  }
  return out;
}
function meshOf(corners, faces) {
  const out = [];
  for (const face of faces) {
    const [a, b, c] = face.map((i) => corners[i]), normal = unit(cross(minus(b, a), minus(c, a)));
    for (const corner of [a, b, c]) out.push(...corner, ...normal);
  }
  return out;
}
const AROUND = 32;  // corners of a circle
function triangles({ kind, size, corners, faces }) {
  const around = AROUND, rings = around / 4, [r, h] = size;
  switch (kind) {
    case "sphere": return revolve([...cap(r, 0, 1, rings), ...cap(r, 0, -1, rings)], around);
    case "capsule": return revolve([...cap(r, h, 1, rings), side(r, h), ...cap(r, -h, -1, rings)], around);
    case "cylinder": return revolve([[[0, h, 0, 1], [r, h, 0, 1]], side(r, h), [[r, -h, 0, -1], [0, -h, 0, -1]]], around);
    case "ellipsoid": {
      const ball = revolve([...cap(1, 0, 1, rings), ...cap(1, 0, -1, rings)], around);
      for (let i = 0; i < ball.length; i += 6) {
        const normal = unit([ball[i + 3] / size[0], ball[i + 4] / size[1], ball[i + 5] / size[2]]);
        for (let k = 0; k < 3; k++) { ball[i + k] *= size[k]; ball[i + 3 + k] = normal[k]; }
      }
      return ball;
    }
    case "mesh": return meshOf(corners, faces);
    default: return boxOf(size);
  }
}
const meshes = new Map();
function shapeOf(spec) {
  const name = spec.mesh_name || `${spec.kind} ${spec.size}`;
  if (!meshes.has(name)) {
    const corners = new Float32Array(triangles(spec)), shape = { buffer: gl.createBuffer(), count: corners.length / 6 };
    gl.bindBuffer(gl.ARRAY_BUFFER, shape.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, corners, gl.STATIC_DRAW);
    meshes.set(name, shape);
  }
  return meshes.get(name);
}

// -- the visible solids -----------------------------------------------------------------------------------------------
const ORB = { kind: "sphere", size: [data.halo.orb] }, ALARM = { kind: "sphere", size: [data.cost_marker.radius] };
const stepOf = () => Math.min(Math.floor(state.time + 1e-6), last);
function thingsOf(world) {
  const list = world.things.map((thing) => ({ shape: shapeOf(thing), model: fromPose(poseOf(world, thing, state.time)), rgba: thing.rgba }));
  const root = poseOf(world, world.root, state.time), frame = fromPose(root), step = stepOf();
  if (world.costly[step]) list.push({ shape: shapeOf(ALARM), model: fromPose([...root.slice(0, 3), 1, 0, 0, 0]), rgba: data.cost_marker.rgba });
  if (state.halo) data.lidars.forEach((lidar, ring) => lidar.angles.forEach((angle, bin) => {
    const { radius, start, rise } = data.halo, reading = world.lidar[(step * data.lidars.length + ring) * lidar.angles.length + bin] / 255;
    const place = [radius * Math.cos(angle), radius * Math.sin(angle), start + rise * ring];
    const at = [0, 1, 2].map((i) => frame[i] * place[0] + frame[4 + i] * place[1] + frame[8 + i] * place[2] + frame[12 + i]);
    list.push({ shape: shapeOf(ORB), model: fromPose([...at, 1, 0, 0, 0]), rgba: [...lidar.rgb, Math.min(1, reading + 0.1)] });
  }));
  return list;
}
const [west, south, east, north] = data.extents, centre = [(west + east) / 2, (south + north) / 2, 0];
const wide = Math.max(east - west, north - south), reach = Math.max(1, wide / 10);  // m; (1), how much farther one looks
const orbits = {
  track: { azimuth: -Math.PI / 2, elevation: (-data.track[1] * Math.PI) / 180, distance: data.track[0] },
  free: { azimuth: -Math.PI / 2.6, elevation: 0.75, distance: 1.5 * wide, target: centre.slice() },
  top: { zoom: 1, shift: [0, 0] },
};
function cameraOf(world, aspect) {
  const root = poseOf(world, world.root, state.time), orbit = orbits[state.camera];
  if (state.camera === "top") {
    const away = root[0] < west - 0.35 || root[0] > east + 0.35 || root[1] < south - 0.35 || root[1] > north + 0.35;
    const middle = away ? root : centre, target = [middle[0] + orbit.shift[0], middle[1] + orbit.shift[1], 0];
    const half = Math.max((north - south) / 2 + 0.35, ((east - west) / 2 + 0.35) / aspect) / orbit.zoom;
    const eye = [target[0], target[1], 20];
    return { eye, focus: target, matrix: times(orthographic(aspect, half, 40), lookAt(eye, target, [0, 1, 0])) };
  }
  const target = state.camera === "track" ? [root[0], root[1], data.track[2]] : orbit.target;
  const { azimuth, elevation, distance } = orbit;
  const eye = [target[0] + distance * Math.cos(elevation) * Math.cos(azimuth),
    target[1] + distance * Math.cos(elevation) * Math.sin(azimuth), target[2] + distance * Math.sin(elevation)];
  return { eye, focus: target, matrix: times(perspective(aspect, 0.02 * Math.max(1, distance / 10), 80 * reach), lookAt(eye, target, [0, 0, 1])) };
}
const columns = Math.ceil(Math.sqrt(data.worlds.length)), rows = Math.ceil(data.worlds.length / columns);

// -- drawing with WebGL -----------------------------------------------------------------------------------------------
const canvas = byId("view");
const gl = canvas.getContext("webgl", { alpha: false, antialias: true, stencil: true, preserveDrawingBuffer: true });
const LIGHT = unit([-0.25, -0.35, 1]);
const VERTEX = `attribute vec3 position, normal; uniform mat4 model, camera; varying vec3 n, p;
void main() { vec4 w = model * vec4(position, 1.0); p = w.xyz; n = mat3(model) * normal; gl_Position = camera * w; }`;
const FRAGMENT = `#ifdef GL_FRAGMENT_PRECISION_HIGH
precision highp float;
#else
precision mediump float;
#endif
uniform vec4 rgba, extents; uniform vec3 light, focus; uniform int kind; varying vec3 n, p;
void main() {
  if (kind == 2) { gl_FragColor = rgba; return; }
  if (kind == 1) {
    float odd = mod(floor(2.0 * p.x) + floor(2.0 * p.y), 2.0), edge = ${(0.008 * reach).toFixed(4)};
    vec3 tile = mix(vec3(0.93, 0.94, 0.955), vec3(0.845, 0.865, 0.895), odd);
    vec2 in_low = step(extents.xy - edge, p.xy), in_high = step(p.xy, extents.zw + edge);
    vec2 out_low = step(p.xy, extents.xy + edge), out_high = step(extents.zw - edge, p.xy);
    float inside = in_low.x * in_low.y * in_high.x * in_high.y, border = max(max(out_low.x, out_low.y), max(out_high.x, out_high.y));
    tile = mix(tile, vec3(0.62, 0.65, 0.70), inside * border);
    gl_FragColor = vec4(mix(tile, vec3(0.79, 0.85, 0.92), smoothstep(${(8 * reach).toFixed(1)}, ${(26 * reach).toFixed(1)}, distance(focus, p))), 1.0);
    return;
  }
  vec3 way = normalize(n);
  float shade = 0.58 + 0.42 * max(dot(way, light), 0.0) + 0.08 * way.z;
  gl_FragColor = vec4(rgba.rgb * shade, rgba.a);
}`;
function program() {
  const made = gl.createProgram();
  for (const [type, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  gl.useProgram(made);
  const uniforms = {};
  for (const name of ["model", "camera", "rgba", "extents", "light", "focus", "kind"]) uniforms[name] = gl.getUniformLocation(made, name);
  return { uniforms, position: gl.getAttribLocation(made, "position"), normal: gl.getAttribLocation(made, "normal") };
}
const gpu = gl && program();
const FLOOR = { kind: "box", size: [60 * reach, 60 * reach, 0.0005], mesh_name: "floor" };
const SHADOW = new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, -LIGHT[0] / LIGHT[2], -LIGHT[1] / LIGHT[2], 0, 0, 0, 0, 0.002, 1]);
function drawShape({ shape, model, rgba }, kind) {
  gl.bindBuffer(gl.ARRAY_BUFFER, shape.buffer);
  gl.vertexAttribPointer(gpu.position, 3, gl.FLOAT, false, 24, 0);
  gl.vertexAttribPointer(gpu.normal, 3, gl.FLOAT, false, 24, 12);
  gl.uniformMatrix4fv(gpu.uniforms.model, false, model);
  gl.uniform4fv(gpu.uniforms.rgba, rgba);
  gl.uniform1i(gpu.uniforms.kind, kind);
  gl.drawArrays(gl.TRIANGLES, 0, shape.count);
}
function drawWorld(world, things, camera, [x, y, width, height]) {
  gl.viewport(x, y, width, height);
  gl.scissor(x, y, width, height);
  gl.clearColor(0.79, 0.85, 0.92, 1);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT | gl.STENCIL_BUFFER_BIT);
  gl.uniformMatrix4fv(gpu.uniforms.camera, false, camera.matrix);
  gl.uniform3fv(gpu.uniforms.light, LIGHT);
  gl.uniform3fv(gpu.uniforms.focus, camera.focus);
  gl.uniform4fv(gpu.uniforms.extents, data.extents);
  const root = poseOf(world, world.root, state.time);
  drawShape({ shape: shapeOf(FLOOR), model: fromPose([Math.round(root[0]), Math.round(root[1]), -0.001, 1, 0, 0, 0]), rgba: [1, 1, 1, 1] }, 1);
  const solid = things.filter((thing) => thing.rgba[3] > 0.99 && thing.shape !== meshes.get(`sphere ${ORB.size}`));
  const clear = things.filter((thing) => !solid.includes(thing));
  gl.enable(gl.STENCIL_TEST);  // overlapping shadows are not darker
  gl.stencilFunc(gl.EQUAL, 0, 1);
  gl.stencilOp(gl.KEEP, gl.KEEP, gl.INCR);
  for (const { shape, model } of solid) drawShape({ shape, model: times(SHADOW, model), rgba: [0, 0, 0, 0.28] }, 2);
  gl.disable(gl.STENCIL_TEST);
  for (const thing of solid) drawShape(thing, 0);
  gl.depthMask(false);
  const away = (thing) => Math.hypot(thing.model[12] - camera.eye[0], thing.model[13] - camera.eye[1], thing.model[14] - camera.eye[2]);
  for (const thing of clear.sort((a, b) => away(b) - away(a))) drawShape(thing, 0);
  gl.depthMask(true);
}

// -- the page ---------------------------------------------------------------------------------------------------------
const COLOURS = ["#3060c0", "#2a9d55", "#b0681a", "#8a4fb8", "#1a8fa3", "#a83a6a", "#5c6a7d", "#7a8a1f"];
const colourOf = (index) => COLOURS[index % COLOURS.length];
const costText = (world, step) => `${+world.costs[step].toFixed(2)}${limit === null ? "" : ` / ${limit}`}`;
const isOver = (world, step) => limit !== null && world.costs[step] > limit;
const labels = data.worlds.map((world, index) => {
  const label = document.createElement("button");
  label.className = "label";
  label.onclick = () => { state.chosen = index; show(); };
  label.style.left = `${100 * (index % columns) / columns}%`;
  label.style.top = `${100 * Math.floor(index / columns) / rows}%`;
  label.style.maxWidth = `calc(${100 / columns}% - 12px)`;
  label.style.maxHeight = `${60 / rows}%`;
  if (data.worlds.length > 1) label.style.borderLeft = `4px solid ${colourOf(index)}`;  // of its curves
  byId("stage").append(label);
  return label;
});
const bars = data.lidars.map((lidar) => {
  const box = document.createElement("div");
  box.className = "lidar";
  const title = document.createElement("b");
  title.textContent = `${lidar.name} lidar`;
  const row = document.createElement("div");
  row.className = "bars";
  const list = lidar.angles.map((angle, bin) => {
    const slot = document.createElement("i"), bar = document.createElement("u");
    slot.title = `bin ${bin}, ${Math.round(180 * angle / Math.PI)} degrees from the robot's x axis`;
    bar.style.background = `rgb(${lidar.rgb.map((value) => 255 * value).join(",")})`;
    slot.append(bar);
    row.append(slot);
    return bar;
  });
  box.append(title, row);
  byId("lidars").append(box);
  return list;
});
byId("hint").textContent = `${bars.length ? "Bars show the closeness of the nearest object per direction, from bin 0. " : ""}Drag turns, wheel zooms,`
  + " Shift and drag moves. Keys: space, arrows, 1 to 3 for the cameras.";
byId("note").textContent = data.note;
document.querySelector("main").style.minHeight = `max(11em, ${90 * rows}px)`;  // in a low window the page scrolls

function areas() {
  const width = canvas.width / columns, height = canvas.height / rows, gap = data.worlds.length > 1 ? 1 : 0;
  return data.worlds.map((_, i) => [Math.round((i % columns) * width) + gap, Math.round(Math.floor(i / columns) * height) + gap,
    Math.floor(width) - 2 * gap, Math.floor(height) - 2 * gap]);
}
function fit(surface) {
  const scale = Math.min(window.devicePixelRatio || 1, 2), box = surface.getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width * scale)), height = Math.max(1, Math.round(box.height * scale));
  if (surface.width !== width || surface.height !== height) { surface.width = width; surface.height = height; }
  return scale;
}
function drawWorlds() {
  gl.enable(gl.SCISSOR_TEST);
  gl.scissor(0, 0, canvas.width, canvas.height);
  gl.clearColor(1, 1, 1, 1);
  gl.clear(gl.COLOR_BUFFER_BIT);
  areas().forEach((area, index) => {
    const world = data.worlds[index], camera = cameraOf(world, area[2] / area[3]);
    drawWorld(world, thingsOf(world), camera, [area[0], canvas.height - area[1] - area[3], area[2], area[3]]);
  });
}
function show() {
  fit(canvas);
  if (gl) drawWorlds();
  const step = stepOf();
  labels.forEach((label, index) => {
    const world = data.worlds[index], own = Math.min(step, world.length);
    label.textContent = `${data.worlds.length > 1 ? `world ${index + 1}: ` : ""}return ${world.returns[own].toFixed(2)}, cost ${costText(world, own)}${step > world.length ? ", ended" : ""}`;
    label.classList.toggle("chosen", data.worlds.length > 1 && index === state.chosen);
    label.classList.toggle("over", isOver(world, own));
  });
  showNumbers(data.worlds[state.chosen], step);
  drawTimeline(step);
  byId("scrub").value = step;
  byId("play").textContent = state.playing ? "Pause" : "Play";
  for (const button of byId("cameras").querySelectorAll("button")) button.classList.toggle("on", button.dataset.camera === state.camera);
  byId("clock").textContent = `step ${step} of ${last}, ${(step * data.dt).toFixed(2)} s`;
  Object.assign(document.body.dataset, { step, playing: state.playing, camera: state.camera, world: state.chosen });
}
function showNumbers(world, step) {
  const rows = { step: `${Math.min(step, world.length)} of ${world.length}`, return: world.returns[step].toFixed(2), cost: costText(world, step),
    "costs now": world.costly[step] ? "yes" : "no", goals: world.goals.filter((when) => when <= step).length };
  byId("numbers").replaceChildren(...Object.entries(rows).flatMap(([name, text]) => {
    const term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    value.classList.toggle("over", (name === "cost" && isOver(world, step)) || text === "yes");
    return [term, value];
  }));
  bars.forEach((list, ring) => list.forEach((bar, bin) => {
    bar.style.height = `${100 * world.lidar[(step * data.lidars.length + ring) * list.length + bin] / 255}%`;
  }));
}
function drawTimeline(step) {
  const surface = byId("timeline"), scale = fit(surface), draw = surface.getContext("2d"), { width, height } = surface;
  draw.clearRect(0, 0, width, height);
  draw.font = `${11 * scale}px system-ui, sans-serif`;
  const x = (t) => width * t / Math.max(last, 1), half = height / 2, pad = 5 * scale;
  const curve = (name, top, low, high) => {
    const y = (value) => top + half - pad - (half - 2 * pad - 6 * scale) * (value - low) / Math.max(high - low, 1e-9);
    data.worlds.forEach((world, index) => {
      draw.strokeStyle = colourOf(index);
      draw.globalAlpha = index === state.chosen ? 1 : 0.35;
      draw.lineWidth = (index === state.chosen ? 2 : 1) * scale;
      draw.beginPath();
      for (let t = 0; t <= world.length; t++) draw.lineTo(x(t), y(world[name][t]));
      draw.stroke();
    });
    draw.globalAlpha = 1;
    return y;
  };
  const all = (name) => data.worlds.flatMap((world) => [Math.min(...world[name]), Math.max(...world[name])]);
  const gain = all("returns"), most = Math.max(...all("costs"), limit === null ? 1 : 1.1 * limit, 1);
  curve("returns", 0, Math.min(0, ...gain), Math.max(...gain, 1e-6));
  const y = curve("costs", half, 0, most), chosen = data.worlds[state.chosen];
  draw.fillStyle = draw.strokeStyle = "#d03030";
  for (let t = 1; t <= chosen.length; t++) if (chosen.costly[t]) draw.fillRect(x(t) - scale / 2, height - 4 * scale, Math.max(scale, x(1)), 4 * scale);
  if (limit !== null) {
    draw.lineWidth = scale;
    draw.setLineDash([6 * scale, 4 * scale]);
    draw.beginPath(); draw.moveTo(0, y(limit)); draw.lineTo(width, y(limit)); draw.stroke();
    draw.setLineDash([]);
    draw.textAlign = "right"; draw.fillText(`limit ${limit}`, width - 4 * scale, y(limit) - 3 * scale); draw.textAlign = "left";
  }
  for (const [text, top] of [["return so far", 0], ["cost so far (red: steps that cost)", half]]) {
    draw.fillStyle = "rgba(255, 255, 255, 0.8)";
    draw.fillRect(0, top + scale, draw.measureText(text).width + 8 * scale, 14 * scale);
    draw.fillStyle = "#6b7280";
    draw.fillText(text, 4 * scale, top + 12 * scale);
  }
  draw.strokeStyle = "#d8dade"; draw.lineWidth = scale;
  draw.beginPath(); draw.moveTo(0, half); draw.lineTo(width, half); draw.stroke();
  draw.strokeStyle = "#1a1a1a";
  draw.beginPath(); draw.moveTo(x(step), 0); draw.lineTo(x(step), height); draw.stroke();
}

// -- controls ---------------------------------------------------------------------------------------------------------
let before = null;
function tick(now) {
  if (!state.playing) return;
  if (before !== null) state.time += state.speed * (now - before) / 1000 / data.dt;
  before = now;
  if (state.time >= last) { state.time = last; state.playing = false; }
  show();
  if (state.playing) requestAnimationFrame(tick);
}
function play(on) {
  state.playing = on;
  before = null;
  if (on && state.time >= last) state.time = 0;
  show();
  if (on) requestAnimationFrame(tick);
}
function seek(step) { state.time = Math.max(0, Math.min(last, step)); show(); }
function choose(camera) { state.camera = camera; show(); }
byId("scrub").max = last;
byId("scrub").oninput = (event) => { state.playing = false; seek(+event.target.value); };
byId("play").onclick = () => play(!state.playing);
byId("back").onclick = () => { state.playing = false; seek(stepOf() - 1); };
byId("forward").onclick = () => { state.playing = false; seek(stepOf() + 1); };
byId("speed").onchange = (event) => { state.speed = +event.target.value; };
byId("halo").onchange = (event) => { state.halo = event.target.checked; show(); };
byId("cameras").onclick = (event) => { if (event.target.dataset.camera) choose(event.target.dataset.camera); };
const timeline = byId("timeline");
const scrubTo = (event) => { const box = timeline.getBoundingClientRect(); state.playing = false; seek(Math.round(last * (event.clientX - box.left) / box.width)); };
timeline.onpointerdown = (event) => { timeline.setPointerCapture(event.pointerId); scrubTo(event); };
timeline.onpointermove = (event) => { if (event.buttons) scrubTo(event); };
canvas.onpointerdown = (event) => canvas.setPointerCapture(event.pointerId);
canvas.oncontextmenu = (event) => event.preventDefault();
canvas.onpointermove = (event) => {
  if (!event.buttons) return;
  const orbit = orbits[state.camera], { movementX: dx, movementY: dy } = event;
  if (state.camera === "top") {
    const scale = (north - south + 0.7) / orbit.zoom / (canvas.clientHeight / rows);
    orbit.shift[0] -= dx * scale;
    orbit.shift[1] += dy * scale;
  } else if (state.camera === "free" && (event.shiftKey || event.buttons === 2)) {
    const scale = orbit.distance / canvas.clientHeight, s = Math.sin(orbit.azimuth), c = Math.cos(orbit.azimuth);
    orbit.target[0] += scale * (s * dx + c * -dy);
    orbit.target[1] += scale * (-c * dx + s * -dy);
  } else {
    orbit.azimuth -= 0.008 * dx;
    orbit.elevation = Math.max(0.05, Math.min(1.55, orbit.elevation + 0.008 * dy));
  }
  show();
};
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const orbit = orbits[state.camera], factor = Math.exp(0.001 * event.deltaY);
  if (state.camera === "top") orbit.zoom = Math.max(0.3, Math.min(8, orbit.zoom / factor));
  else orbit.distance = Math.max(0.4, Math.min(40 * reach, orbit.distance * factor));
  show();
}, { passive: false });
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;  // the browser's own, such as Alt and an arrow: back
  if (event.target.tagName === "SELECT" || (event.target.tagName === "INPUT" && event.key.startsWith("Arrow"))) return;
  const keys = { " ": () => play(!state.playing), ArrowLeft: () => seek(stepOf() - 1), ArrowRight: () => seek(stepOf() + 1), Home: () => seek(0), End: () => seek(last),
    1: () => choose("track"), 2: () => choose("top"), 3: () => choose("free") };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});
addEventListener("resize", show);
if (gl) {
  gl.enable(gl.DEPTH_TEST);
  gl.enable(gl.CULL_FACE);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  gl.enableVertexAttribArray(gpu.position);
  gl.enableVertexAttribArray(gpu.normal);
} else {
  const notice = document.createElement("p");
  notice.id = "notice";
  notice.textContent = "This browser has no WebGL, which the picture needs. Numbers, curves and lidars work without it.";
  byId("stage").append(notice);
}
show();
